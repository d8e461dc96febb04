package core

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Mail is what a member's mailbox holds: an [Event] for its [Core], a [Change] that was found beside the core, or
// something of the [Observer]'s own.
type Mail interface{ Mail() }

// An Event is something that happens to a [Core].
type Event interface {
	Mail
	event()
}

type (
	// Tick lets the core look at its clock. Due once [Core.Deadline] has come, harmless before.
	Tick struct{}
	// Hurry sends heartbeats that are due soon, before something that takes a while.
	Hurry struct{}
	// Lapsed says that a role of this member has ended because its lease was over.
	Lapsed struct{}
	// Receive brings a message of another member. At is when it came in, on this member's clock.
	Receive struct {
		Message *raftpb.Message
		At      time.Duration
	}
	// Born lets a core that was [Config.Unborn] take part. Whoever posts it has made it durable.
	Born struct{}
	// Propose asks for a batch to be appended. Its fate comes as a [Done], exactly once.
	Propose struct{ Batch *Batch }
	// StartEpoch asks the leader to open a new epoch for itself. ClusterID is the id the cluster gets
	// if this is its first epoch.
	StartEpoch struct{ ClusterID [16]byte }
	// Written says that a [Write] is durable. Writes are answered in their order.
	Written struct{ Write *Write }
	// Writing says that the disk has got on with a [Write] that is not done, since the last time.
	Writing struct{}
	// Applied says that an [Apply] is done. Applies are answered in their order.
	Applied struct{ Apply *Apply }
	// Transfer asks the leader to hand leadership to another voter. The lease is given up first: from
	// this step on the leader holds none until the transfer has failed.
	Transfer struct{ To uint64 }
	// KeepLead calls a transfer off that has not come about: nobody is asked to take over any more, and a lease rests on what
	// is promised from now on. Whoever was asked before may still take over, as long as no majority has promised anew.
	KeepLead struct{}
	// AskTransfer asks the leader, through a message, to hand leadership to this member.
	AskTransfer struct{}
	// Reluctant says whether this member had better not lead. Then it lets all others campaign first.
	Reluctant struct{ Yes bool }
	// Unreachable says that messages to a member were lost: because a connection to it has ended or, if Dropped, because they were not sent,
	// which is no reason to think that anything has happened to the member.
	Unreachable struct {
		ID      uint64
		Dropped bool
	}
	// Gone says that the process that was a member at a time on this member's clock has ended: its
	// address refused a connection after that time. A promise to it from before is void.
	Gone struct {
		ID uint64
		At time.Duration
	}
	// DiskOut says whether this member's disk has room only for what keeps the cluster alive: votes and epochs.
	// Then it takes no records from the leader, and lags.
	DiskOut struct{ Out bool }
	// Tell lets the leader tell the others at once what is committed, where that was to wait for the next batch.
	Tell struct{}
	// Want says that this member, an arbiter, wants the leader's checkpoint, if that is at a raft index or a later one; 0: no more.
	Want struct{ From uint64 }
	// SnapshotSent says how sending a snapshot ended, that of the message. It may come late, after another
	// has been sent: what it says is of this one alone.
	SnapshotSent struct {
		Message *raftpb.Message
		OK      bool
	}
)

func (Tick) event()         {}
func (Hurry) event()        {}
func (Lapsed) event()       {}
func (Receive) event()      {}
func (Born) event()         {}
func (Propose) event()      {}
func (StartEpoch) event()   {}
func (Written) event()      {}
func (Writing) event()      {}
func (Tell) event()         {}
func (Fetched) event()      {}
func (Applied) event()      {}
func (Doubt) event()        {}
func (Transfer) event()     {}
func (KeepLead) event()     {}
func (AskTransfer) event()  {}
func (Reluctant) event()    {}
func (Unreachable) event()  {}
func (Gone) event()         {}
func (DiskOut) event()      {}
func (Want) event()         {}
func (SnapshotSent) event() {}

func (Tick) Mail()         {}
func (Hurry) Mail()        {}
func (Lapsed) Mail()       {}
func (Receive) Mail()      {}
func (Born) Mail()         {}
func (Propose) Mail()      {}
func (StartEpoch) Mail()   {}
func (Written) Mail()      {}
func (Writing) Mail()      {}
func (Tell) Mail()         {}
func (Fetched) Mail()      {}
func (Applied) Mail()      {}
func (Doubt) Mail()        {}
func (Transfer) Mail()     {}
func (KeepLead) Mail()     {}
func (AskTransfer) Mail()  {}
func (Reluctant) Mail()    {}
func (Unreachable) Mail()  {}
func (Gone) Mail()         {}
func (DiskOut) Mail()      {}
func (Want) Mail()         {}
func (SnapshotSent) Mail() {}

// A Change is something that the role of the member may depend on.
type Change interface{ change() }

type (
	// Leadership says who leads now; Leader is 0 while nobody is known to.
	Leadership struct {
		Leader, Term uint64
		Leading      bool       // this member leads
		After        Succession // how it came to, if it does
	}
	// EpochStarted says that an epoch has started and everything before it has been applied here.
	EpochStarted struct{ Epoch Epoch }
	// Settled says that this member leads in a term and that everything before that is applied here.
	Settled struct{ Term uint64 }
	// Lease says until when, on this member's clock, nobody else can be elected. Zero: no lease.
	Lease struct{ Until time.Duration }
	// Doubted says that the lease is given up, since the clock on the wall has got ahead of the lease's by so much.
	Doubted struct{ By time.Duration }
	// TransferAsked says that another member asks this one, the leader, for leadership.
	TransferAsked struct{ By uint64 }
	// PeerGone says that the process of another member has ended, and that nothing was heard of a new one: crash evidence.
	PeerGone struct{ ID uint64 }
	// PeerLost says that messages to another member were lost on the way while this one leads. Its process may be another one from now on, so what
	// it answered to heartbeats from before says nothing of what it can do now.
	PeerLost struct{ ID uint64 }
	// TransferRefused says that a member cannot take over to which leadership was to be handed: it has just started.
	TransferRefused struct{ By uint64 }
	// StartRefused says that a StartEpoch could not be proposed now.
	StartRefused struct{}
	// Problem says that something is wrong which does not end the member, or with a nil Err that it is
	// over. A core emits it, and anyone may post it. Kind is a short constant, Peer the member
	// that it is about, 0 if it is this one.
	Problem struct {
		Kind string
		Peer uint64
		Err  error
	}
)

func (Leadership) change()      {}
func (EpochStarted) change()    {}
func (Settled) change()         {}
func (Lease) change()           {}
func (Doubted) change()         {}
func (TransferAsked) change()   {}
func (PeerGone) change()        {}
func (PeerLost) change()        {}
func (TransferRefused) change() {}
func (StartRefused) change()    {}
func (Problem) change()         {}

// Mail lets anyone post a problem.
func (Problem) Mail() {}
