package core

import (
	"math"
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
	// AskTransfer asks the leader, through a message, to hand leadership to this member.
	AskTransfer struct{}
	// Unreachable says that messages to a member were lost.
	Unreachable struct{ ID uint64 }
	// Gone says that the process that was a member at a time on this member's clock has ended: its
	// address refused a connection after that time. A promise to it from before is void.
	Gone struct {
		ID uint64
		At time.Duration
	}
	// DiskOut says whether this member's disk has room only for what keeps the cluster alive: votes and epochs.
	// Then it takes no records from the leader, and lags.
	DiskOut struct{ Out bool }
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
func (Fetched) event()      {}
func (Applied) event()      {}
func (Doubt) event()        {}
func (Transfer) event()     {}
func (AskTransfer) event()  {}
func (Unreachable) event()  {}
func (Gone) event()         {}
func (DiskOut) event()      {}
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
func (Fetched) Mail()      {}
func (Applied) Mail()      {}
func (Doubt) Mail()        {}
func (Transfer) Mail()     {}
func (AskTransfer) Mail()  {}
func (Unreachable) Mail()  {}
func (Gone) Mail()         {}
func (DiskOut) Mail()      {}
func (SnapshotSent) Mail() {}

// Effects is what a step asks the driver to do. The driver lets its [Observer] see the changes first
// (a role that ends must have ended before anything that depends on it leaves), then does the rest in
// any order between the fields, in the given order within each.
type Effects struct {
	Changes []Change
	Send    []*raftpb.Message
	Writes  []*Write
	Applies []*Apply
	Fetches []*Fetch
	Done    []Done
	Decided []Decided
}

// reset makes room for the effects of the next step.
func (e *Effects) reset() {
	e.Changes = emptied(e.Changes)
	e.Send = emptied(e.Send)
	e.Writes = emptied(e.Writes)
	e.Applies = emptied(e.Applies)
	e.Fetches = emptied(e.Fetches)
	e.Done = emptied(e.Done)
	e.Decided = emptied(e.Decided)
}

// emptied returns a slice to be filled again. It keeps nothing alive.
func emptied[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// A Write is to be made durable, in order. Then its messages are to be sent, by whoever has written it, and
// it is to be answered with [Written].
type Write struct {
	Hard     *raftpb.HardState // nil: unchanged
	Entries  []*raftpb.Entry
	Snapshot *raftpb.Snapshot // nil, or a staged one to bring into force first

	Send  []*raftpb.Message // to the other members, once it is durable
	Bytes int               // of the entries

	responses []*raftpb.Message // to be stepped once it is durable
	issued    time.Duration

	// Room for what most writes have, so that one allocation makes all of it.
	hard        raftpb.HardState
	send1, own1 [1]*raftpb.Message
}

// An Apply is what was committed. It is to be shown to readers, to be given to the state machine, in order, and then to be
// answered with [Applied].
type Apply struct {
	Snapshot *raftpb.Snapshot // if not nil, restore from it
	Bytes    int              // of the raft entries it stands for

	Accepted []*raftpb.Entry // the batches that count
	Position Position        // after it
	Term     uint64          // of the raft entry at Position
	Batches  []*Batch        // of this member, accepted in it

	epochs    []Epoch // started in it
	responses []*raftpb.Message

	// Room, as in a Write.
	accepted1 [1]*raftpb.Entry
	batches1  [1]*Batch
}

// Records returns the accepted records. Their data is the log's.
func (a *Apply) Records() []Entry {
	records, _ := RecordsOf(a.Accepted, math.MaxInt)
	return records
}

// RecordsOf returns the records of the first of some accepted entries, and of how many: at least of one, and of more as
// long as what describes the records takes no more than a limit of bytes.
func RecordsOf(accepted []*raftpb.Entry, limit int) (records []Entry, entries int) {
	for _, e := range accepted {
		h, err := ParseHeader(e.GetData())
		if err != nil {
			panic(err) // it was accepted
		}
		if entries > 0 && (len(records)+int(h.Count))*RecordSize > limit {
			break
		}
		records = AppendRecords(records, h, e.GetData())
		entries++
	}
	return records, entries
}

// Done is the fate of a proposed batch: a nil Err means that it is in the log from Batch.First on,
// and applied on this member. Any other is definite (G3).
type Done struct {
	Batch *Batch
	Err   error
}

// A Change is something that the role of the member may depend on.
type Change interface{ change() }

type (
	// Leadership says who leads now; Leader is 0 while nobody is known to.
	Leadership struct {
		Leader, Term uint64
		Leading      bool // this member leads
	}
	// EpochStarted says that an epoch has started and everything before it has been applied here.
	EpochStarted struct{ Epoch Epoch }
	// Lease says until when, on this member's clock, nobody else can be elected. Zero: no lease.
	Lease struct{ Until time.Duration }
	// TransferAsked says that another member asks this one, the leader, for leadership.
	TransferAsked struct{ By uint64 }
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

func (Leadership) change()    {}
func (EpochStarted) change()  {}
func (Lease) change()         {}
func (TransferAsked) change() {}
func (StartRefused) change()  {}
func (Problem) change()       {}

// Mail lets anyone post a problem.
func (Problem) Mail() {}

// An Observer is stepped, on the goroutine that owns the core, with all that changes and with what was posted that is neither
// an [Event] nor a [Change], and with what is known then. It returns events for the core to be stepped with next. It must not block.
type Observer interface {
	Changed(now time.Duration, view View, change Change) []Event
	Posted(now time.Duration, view View, mail Mail) []Event
}

// Drive steps the core and the observer with what was posted, the observer with what changes, and the core with what the
// observer answers, until nobody has more to say. It returns the effects of all steps in order; they are valid until the core
// is driven or stepped again. It is what makes core and observer one machine with one mailbox, in the product and in the
// simulator alike.
func Drive(c *Core, o Observer, now time.Duration, posted []Mail) (Effects, error) {
	own := c.events[:0]
	for _, m := range posted {
		switch m := m.(type) {
		case Event:
			own = append(own, m)
		case Change:
			own = append(own, o.Changed(now, c.View(now), m)...)
		default:
			own = append(own, o.Posted(now, c.View(now), m)...)
		}
	}
	c.eff.reset()
	for told := 0; len(own) > 0; {
		err := c.step(now, own)
		clear(own)
		own = own[:0]
		for ; told < len(c.eff.Changes); told++ {
			own = append(own, o.Changed(now, c.View(now), c.eff.Changes[told])...)
		}
		if err != nil {
			return c.eff, err
		}
	}
	c.events = own
	return c.eff, nil
}
