package ha

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// A Member is one member of the cluster.
type Member struct {
	// Name is unique in the cluster and stays with the member's directory: 1 to 128 bytes of ASCII
	// letters, digits, '.', '_' and '-'.
	Name string
	// Addr is where the other members reach it, host:port. A host name is resolved at every dial, and all
	// addresses that it leads to are tried. It is one host's: neither unspecified (0.0.0.0) nor multicast.
	Addr string
	// Advertise is where the program's own service is reached, for the others to name; "": nowhere.
	Advertise string
	// Kind says what it is there for. The members of a new cluster are voters and arbiters, at least one of them a voter. That of a
	// member itself, in its own configuration, must stay right: as [KindArbiter] its process keeps states that it need not
	// understand, has neither StateMachine nor OnActive, and is never Active.
	Kind Kind
	// Priority says to whom the role goes: of those that are well and caught up to one of the highest. What is beyond a
	// million, or its negative, counts as that.
	Priority int
}

// Config says what a [Node] is. It is passed by value and not changed. The zero value of every
// optional field is the safe default.
type Config struct {
	// Name is this member's name, one of Members.
	Name string
	// Dir is the member's directory, made if it is absent. It belongs to this member alone.
	Dir string
	// Cluster names the cluster, by the same rule as a member's name. Members of other clusters are
	// refused.
	Cluster string
	// Members are the voters of a new cluster, the same list on each: 2N+1 of them survive the loss of N. One is
	// enough for development, or to begin with. Two survive nothing; an even number survives no more than one less.
	// Once the cluster has begun, the list is in its log, changed by [Node.AddMember] and the like, and this one says where this member is and
	// where others may be found that know the latest; it need not be right, and one that differs is no error. The first leader writes
	// their Priority and Advertise, and who is an arbiter, into the cluster's list.
	Members []Member

	// Advertise is where this member's own service is reached, any text of at most 255 bytes, an URL for instance. It travels with
	// the list of the members: [Status], [NotActiveError], [MemberStatus] and clients name it. Where the list says something else, the member has
	// it changed once there is a leader. "": it is what the list says.
	Advertise string

	// Join begins an empty directory as one that waits to be added to a cluster that is there, by AddMember or
	// ReplaceMember on one of its members ([Joining]). Members then has this member, and some others that are asked who
	// they are; without them it waits to be asked. With TLS, certificates that are only for a host are taken from those in Members
	// alone. It has no effect on a directory with something in it.
	Join bool

	// Heal lets a member come back without a person when its directory is lost, empty although the others know it, or damaged: it waits
	// to take the place of what it was ([Joining]), and what was damaged is moved into a directory damaged-<time> in Dir, named in the log, and
	// kept for ever: delete it when nobody wants to look at it any more. And it lets this member, when it leads, replace one that waits so:
	// if that one answers at the address where the member is listed, what it was has not been heard of by anyone for three and a half
	// election timeouts and has not come back, more than half of the voters are well without it, and no other change is under way.
	// A member that finds out while it runs that its directory is of no use stops, and begins anew with the next Open. Set it on all members.
	// False: a damaged directory is an error of Open, and so is an empty one that the others know with something in it ([ErrForgotten]).
	Heal bool

	// FormWithout names members that need not be there when a new cluster begins, a minority of Members.
	// A cluster begins when every member is there and has said that it is new: nobody can tell otherwise
	// whether one that is missing remembers an earlier life of this cluster, which is then over for good.
	// Set it for one start, when you know that the missing ones are new or lost, and take it away again.
	// It has no effect as soon as anybody is reached who was born before, or on a member that was. Empty:
	// all must be there.
	FormWithout []string

	// StateMachine, if not nil, is built from the log on every member. All members have one, or none has, for
	// ever ([ErrStateMachine]). If it is a [Verifier], too, no snapshot comes into force that it would not restore; if it is an
	// [Answerer], [Node.AppendBatch] returns what it says to each record.
	StateMachine StateMachine
	// OnActive is called on the member that becomes Active, with the token of its epoch. It may be called
	// before Open has returned: [FromContext] gives it the node. ctx ends with
	// the role, [context.Cause] says why; OnActive must return then. It may also return before: nil
	// keeps the role; an error gives it up, and the member stays away for CoolDown. A panic counts
	// as an error. Optional.
	OnActive func(ctx context.Context, t fence.Token) error
	// Handle, if not nil, is called on the Active with each request that [Node.Call], on any member, or a client carries to it; without
	// it a request becomes a record, and the StateMachine answers. Many run at a time, each on a goroutine of its own. ctx ends
	// with the role, or when the caller waits no longer; what Handle appends with it, once, takes effect once, however often
	// the request is repeated ([Request.Known], [ErrOneAppend]); what it appends without ctx, or by AppendAsync, does not.
	// Its error goes to the caller ([CallError]); a panic, too. All members should have one, or none. Optional.
	Handle func(ctx context.Context, t fence.Token, r Request) ([]byte, error)
	// MaxHandlers is how many calls of Handle run at a time; more get [ErrBusy]. 0: 1,024.
	MaxHandlers int
	// OnStandby is called when the member starts and after each time it was Active. ctx ends when it
	// is about to become Active or closes; OnStandby must return then, since OnActive waits for it.
	// Its errors are only reported. Optional.
	OnStandby func(ctx context.Context) error

	// Health, if not nil, checks whether this member's program can do its work; nil says that it can. HealthStrikes failures in
	// a row make the member sick: then it is not chosen, and an Active gives the role up, to a member that is well or, if
	// there is none, to nobody until one is. One check without an error ends that, and others are preferred for CoolDown. A
	// member is not Active before its first check has passed. It runs on a goroutine of its own, once at a time; ctx ends
	// after HealthTimeout. A panic is a failure; so is a check that has not returned when its time is over, and again
	// each HealthInterval after. It is ZKFC's HealthMonitor.
	Health func(ctx context.Context) error
	// HealthInterval is the time between the beginnings of two checks, if the first has ended. 0: 1 s. At least 1 ms.
	HealthInterval time.Duration
	// HealthTimeout is how long a check may take. 0: five times HealthInterval.
	HealthTimeout time.Duration
	// HealthStrikes is how many checks in a row must fail. 0: 3.
	HealthStrikes int

	// Preempt, if not 0, lets this member, while it is Active, hand over to a member of higher Priority that has been well and
	// caught up for so long without a break. 0: nobody fails back without being asked.
	Preempt time.Duration
	// StayAway, if not "", is why this member shall not take the role, from its start on until [Node.ComeBack]: for maintenance,
	// or on a host that is there for its vote and its copy. It goes on voting.
	StayAway string

	// OnFence, if not nil, is called on the member that is about to become Active, before OnActive and while OnStandby may still run,
	// to keep the previous Active out of what this package does not guard: by a power switch, an access list, a lock of a
	// service. It is not called before the first epoch, nor by a process for itself. ctx ends after FenceTimeout, or when
	// this member does not lead any more; it must return then. A panic is a failure. It is HDFS's fencing method, and
	// must bear being called twice for one Previous. Package ha/onfence has ready-made ones.
	OnFence func(ctx context.Context, p Previous) error
	// FencePolicy says what a failure of OnFence means. 0: FenceRequired.
	FencePolicy FencePolicy
	// FenceTimeout is how long OnFence may take. Nobody is Active meanwhile. 0: 10 s.
	FenceTimeout time.Duration

	// OnStuck, if not nil, is called once, on a goroutine of its own, when OnActive has not returned within DrainTimeout after its
	// ctx had ended: the role goes to another member then, and what this process still does in it is unguarded where nobody looks
	// at tokens. [ExitOnStuck] ends the process. The reason is a sentence for people.
	OnStuck func(reason string)
	// Watchdog, if not nil, is fed as long as this member's loop runs and no OnActive is stuck, from Open until the node is closed
	// and OnActive has returned: then it is closed. See package ha/watchdog.
	Watchdog Watchdog

	// ObeyMembers lets the other members command this one, on behalf of operators that they have authorised: to become Active or hand
	// over, to stay away, to come back ([Node.BecomeOf], [Node.StayAwayOf], [Node.ComeBackOf]). The status page of any member (ha/admin) then commands
	// this one, too. It makes whoever may change something on one member's page one who may here. False: a member obeys operators and its own program.
	ObeyMembers bool

	// Bind is the address to listen on, host:port; "" is this member's Addr.
	Bind string
	// Listener, if not nil, is listened on instead of Bind, such as one that a supervisor has opened. It is closed with the node, and where
	// Open fails on a configuration without faults. Not together with Heal, which opens twice. The others must reach it at this member's Addr; a socket that others hold open, too, gives no evidence of a crash.
	Listener net.Listener
	// SharePort lets the program serve something else on this member's port: connections that are not a member's or a client's come to
	// [Node.Others]. They are told apart by their first bytes and, with TLS, by the name "baton" in ALPN, so whoever connects must speak first.
	SharePort bool
	// TLS, if not nil, secures all connections, both sides with certificates. See [AuthorizeByCertificate] for what
	// must be in them. Nil: anyone who reaches the port can be a member, and take everything from the others.
	TLS *tls.Config
	// GetTLS, if not nil, is asked for the TLS configuration at each handshake, instead of TLS, so that
	// certificates and authorities can be replaced without a restart: return another configuration, and it
	// counts from the next connection on, dialled or accepted. In case of an error the last one is used;
	// Open calls it once, and fails with it. It is called from many goroutines, and may block and panic
	// without harm to more than that handshake. [TLSFiles] reads files. Not together with TLS.
	GetTLS func() (*tls.Config, error)
	// Authorize, if not nil, decides instead of [AuthorizeByCertificate] which certificates are whose: who may be a member, a
	// client, an operator. It is asked in each handshake, on both sides, and once a minute and whenever certificates
	// are renewed for all connections that stand: an error refuses or ends that connection, and its text is told to
	// the other side. It may block for a few seconds; one that panics or does not return has refused.
	Authorize func(ctx context.Context, c Claim) error

	// DialTimeout is how long one address of a member is waited for to take a connection; all addresses
	// that a name leads to are tried, 150 ms apart. 0: 1 s. At least a network round trip, at most 1 minute.
	DialTimeout time.Duration
	// Heartbeat is the interval in which the leader shows that it is alive. 0: 50 ms. At least 5 ms.
	// Well above a network round trip.
	Heartbeat time.Duration
	// ElectionTimeout is the silence after which this member replaces the leader, and for how long it
	// promises not to. A lease lasts as long as a majority has promised: an Active that is cut off ends
	// within the longest value of any member. 0: ten heartbeats. 4 to 1,000 heartbeats; what is left
	// for the lease, ElectionTimeout - Heartbeat - MaxClockDrift x ElectionTimeout, is at least two and a half.
	// Longer than any pause (garbage collection, scheduling, disk) that is to be ridden out.
	ElectionTimeout time.Duration
	// MaxClockDrift is by how much the rates of two members' clocks may differ for G4 to hold: 0.01
	// is a hundredth. Of two members the larger value counts. 0: 0.01. Below 0.5.
	MaxClockDrift float64
	// DrainTimeout is how long a callback may take to return once its ctx has ended, before the role
	// moves on to another member without waiting for it; Close waits twice as long. 0: 10 s.
	DrainTimeout time.Duration
	// CoolDown is how long a member stays away from the role after OnActive has failed, and leaves it to others where there are
	// any after it was sick. When that happens again soon after, it is twice as long each time, eight times at most. 0: 10 s.
	CoolDown time.Duration
	// NoCrashEvidence turns off the replacement of a leader as soon as its host says that its process has ended: it ends
	// the connections in order (a FIN, not a reset), and refuses others at the address where that process was. Set it where
	// connections between members do not end at their hosts, but at a proxy, a load balancer or a port mapping, which can do both
	// while the process runs. That an address becomes another host's meanwhile, or that a firewall resets and refuses, is no evidence.
	NoCrashEvidence bool
	// NoHeir does without the heir of the process's memory: a second process, called baton-heir, that shares the memory, runs nothing, and
	// ends when this one does. A process that is killed gives its memory back before its connections end, on Linux, at 75 µs for each MiB; with an heir it
	// does so afterwards, and the others need not wait for that. There is one for each process, whatever the number of nodes in it, from Open to Close;
	// none with NoCrashEvidence, and on systems other than Linux on amd64 or arm64. It costs no memory, but programs that add up the memory of processes one
	// by one, instead of that of a control group, count it twice.
	NoHeir bool

	// MemoryBytes is about how much memory the member may take, garbage that is not collected yet included, and the
	// StateMachine excluded. All bounds of queues, buffers and caches follow from it. 0: a quarter of what the
	// process may have by GOMEMLIMIT, its control groups and the machine, 512 MiB at most; more if MaxRecord, MaxPending
	// and CacheBytes need it. At least 32 MiB, 16 times MaxRecord, and twice MaxPending and CacheBytes together. What is on its way to the
	// others is shared out among as many as Members has, or two; where more are added, list them with the next start.
	MemoryBytes int64
	// MaxRecord bounds one record, in bytes. 0: 4 MiB. At most 32 MiB.
	MaxRecord int
	// MaxPending bounds the records, in bytes, whose Append has not returned. 0: an eighth of MemoryBytes.
	MaxPending int64
	// CacheBytes bounds the recent part of the log that is kept in memory. 0: an eighth of MemoryBytes.
	CacheBytes int
	// CheckpointBytes is after how much log a checkpoint is written, a snapshot of the state machine if
	// there is one, but not before as much log has come as the last one was large. 0: 64 MiB. While checkpoints fail, 16 times as much log is kept, at
	// least 256 MiB, and as much as the last one was large; then appends get [ErrNoRoom].
	CheckpointBytes int64
	// RetainBytes is how much log is kept behind a checkpoint, at least, for subscribers and for
	// members that lag. 0: 256 MiB.
	RetainBytes int64
	// CursorBytes is how much log is kept besides for readers that have a cursor ([Node.SaveCursor]) and have not come so far, at most. One that falls
	// behind further has lost its place: the problem "cursor" names it. Nothing of it is kept while the disk is nearly full. 0: 1 GiB.
	CursorBytes int64
	// RetainFor is how long log is kept besides, however much that is, for subscribers that come back later: no record is given up that
	// was committed here less than so long ago, or before the last start, if that is later. While the disk is nearly full only RetainBytes
	// count. 0: only RetainBytes count.
	RetainFor time.Duration
	// MinFreeBytes is how much must be free in Dir's file system for this member to take appends; below, they get [ErrNoRoom], reads go on, and
	// the role is handed to a member that has room. 0: 16 MiB. At least what a checkpoint takes is sensible.
	MinFreeBytes int64
	// ReserveBytes is the size of a file in Dir that takes space as long as there is some, and is deleted when less than half of MinFreeBytes is free,
	// so that checkpoints, and a start, still find room on a full disk. It is made again before appends are taken again. 0: 16 MiB; below 0: none.
	ReserveBytes int64

	// Version is that of the program, as the others list it in [MemberStatus]; what is beyond 128 bytes is cut. "": the version and the
	// revision of the main module as they were built, if that is known.
	Version string

	// SnapshotLimit is the most bytes a second at which this member sends snapshots, to all others together. 0: none. At least 1 MiB. Without it
	// they are sent as fast as appends leave room for, and at 8 MiB a second at least, or as fast as records are appended if that is more. One that is sent
	// more slowly may have to be followed by another, since the log behind it is not kept for ever.
	SnapshotLimit int64

	// Logger gets what happens, from a goroutine of its own: one that is slow delays nothing, and loses lines.
	// Nil: slog.Default().
	Logger *slog.Logger
}

// What belongs to other packages of ours has a name here, so that programs need not import those; docs/reference.md lists all fields.
type (
	// A StateMachine is built from the records of the log, the same on every member: Apply(entries []Entry) error takes the next ones,
	// Snapshot() (io.WriterTo, error) captures the state, and Restore(r io.Reader) error replaces it. They are called one at
	// a time, by no goroutine of the member's loop. What each must see to is said in [log.StateMachine].
	StateMachine = log.StateMachine
	// A Verifier is a StateMachine with Verify(r io.Reader) error, which tells whether Restore would take a state: see [log.Verifier].
	Verifier = log.Verifier
	// An Answerer is a StateMachine with Answer(entries []Entry) (answers [][]byte, err error), which is called in the place of Apply and
	// answers each record: see [log.Answerer].
	Answerer = log.Answerer
	// An Entry is one committed record: its Index (1, 2, 3 …, without holes), the Epoch in which it was appended, both uint64, and its Data, a
	// []byte. A subscriber's Data is its own; a state machine's may be read and kept, and must not be written to.
	Entry = log.Entry
	// An Epoch is one row of the cluster's history: Epoch, its Holder, who was Active in it (a string), First, the index that the first record
	// after its start has or will have, and for those who look into raft its Term and the Raft index of its start; uint64 but the Holder.
	Epoch = log.Epoch
	// A CompactedError says that a record (Index) is no longer held, and which is the First that is; both uint64. It matches [ErrCompacted].
	CompactedError = log.CompactedError
	// A ChecksumError says that the records First to Last are not what was appended: a state machine has written to Entry.Data, or
	// memory is damaged.
	ChecksumError = log.ChecksumError
	// A NoRoomError says for want of what this member takes no appends for the time being: its Reason, [RoomDisk] or [RoomCheckpoint], and
	// Err, which says it in words. It matches [ErrNoRoom] and [ErrBusy].
	NoRoomError = log.NoRoomError
)

// What a [NoRoomError] may have as its reason.
const (
	RoomDisk       = log.RoomDisk
	RoomCheckpoint = log.RoomCheckpoint
)

// A Claim is what the other side of a connection wants to be, and what it has shown for it, as [Config.Authorize] is asked: a struct with its
// Role, its Name, which without a certificate proves nothing, Remote (a net.Addr), whether this side has Dialled it, and TLS, the
// *tls.ConnectionState with its certificates, nil without TLS; Cluster, the list of the Members, and the Host of the member that it says it is.
type Claim = transport.Claim

// A Role is what a connection may be there for.
type Role = transport.Role

// The roles of those who connect.
const (
	RoleMember   = transport.RoleMember
	RoleClient   = transport.RoleClient
	RoleOperator = transport.RoleOperator
)

// AuthorizeByCertificate is transport's: the default of [Config.Authorize].
func AuthorizeByCertificate(ctx context.Context, c Claim) error {
	return transport.AuthorizeByCertificate(ctx, c)
}

// RoleURI is transport's: what a certificate has as a URI (subject alternative name) to say what its holder may be.
func RoleURI(role Role, cluster, name string) *url.URL { return transport.RoleURI(role, cluster, name) }

// TLSFiles is transport's: a function for [Config.GetTLS] that reads the certificate, its key and the authorities from files in
// PEM, and reads them again when they have changed.
func TLSFiles(certificate, key, authorities string) func() (*tls.Config, error) {
	return transport.TLSFiles(certificate, key, authorities)
}

// Validate reports everything that is wrong with the configuration, at once. It changes nothing and
// resolves no names.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("baton: Config."+format, args...)) }

	if !fence.ValidName(c.Cluster) {
		wrong("Cluster: %q is not a name", c.Cluster)
	}
	if c.Dir == "" {
		wrong("Dir: is empty")
	}
	names, ids, addrs := map[string]bool{}, map[uint64]string{}, map[string]string{}
	for i, m := range c.Members {
		if !fence.ValidName(m.Name) {
			wrong("Members[%d].Name: %q is not a name", i, m.Name)
		} else if names[m.Name] {
			wrong("Members[%d].Name: %q is there twice", i, m.Name)
		} else if other, taken := ids[memberID(m.Name)]; taken {
			wrong("Members[%d].Name: %q and %q have the same id; rename one", i, m.Name, other)
		}
		addr, err := transport.CheckAddr(m.Addr, false)
		if err != nil {
			wrong("Members[%d].Addr: %w", i, err)
		} else if other, taken := addrs[addr]; taken {
			wrong("Members[%d].Addr: %q is that of %q too", i, m.Addr, other)
		}
		names[m.Name], ids[memberID(m.Name)], addrs[addr] = true, m.Name, m.Name
	}
	switch {
	case len(c.Members) == 0:
		wrong("Members: is empty")
	case !names[c.Name]:
		wrong("Name: %q is none of Members", c.Name)
	}
	c.checkKinds(wrong)
	for i, name := range c.FormWithout {
		switch {
		case !names[name]:
			wrong("FormWithout[%d]: %q is none of Members", i, name)
		case name == c.Name:
			wrong("FormWithout[%d]: %q is this member", i, name)
		case slices.Contains(c.FormWithout[:i], name):
			wrong("FormWithout[%d]: %q is there twice", i, name)
		}
	}
	if 2*len(c.FormWithout) >= len(c.Members) && len(c.FormWithout) > 0 {
		wrong("FormWithout: %d of %d members are no minority", len(c.FormWithout), len(c.Members))
	}
	if len(c.Advertise) > wire.MaxChangeText {
		wrong("Advertise: %d bytes are more than %d", len(c.Advertise), wire.MaxChangeText)
	}
	if c.Bind != "" {
		if addr, err := transport.CheckAddr(c.Bind, true); err != nil {
			wrong("Bind: %w", err)
		} else if strings.HasSuffix(addr, ":0") {
			wrong("Bind: %q has port 0, and the others could not learn which one it became", c.Bind)
		}
	}
	if c.Bind != "" && c.Listener != nil {
		wrong("Listener: Bind is set too")
	}
	if c.Heal && c.Listener != nil {
		wrong("Listener: Heal is set too, and would need another one")
	}
	if err := transport.ValidateTLS(c.TLS); err != nil {
		wrong("TLS: %w", err)
	}
	if c.TLS != nil && c.GetTLS != nil {
		wrong("GetTLS: TLS is set too")
	}
	d := c.withDefaults()
	if d.Heartbeat < 5*time.Millisecond {
		wrong("Heartbeat: %v is below 5ms", c.Heartbeat)
	} else if r := d.ElectionTimeout / d.Heartbeat; r < 4 || r > 1000 {
		wrong("ElectionTimeout: %v is not 4 to 1,000 times the Heartbeat of %v", d.ElectionTimeout, d.Heartbeat)
	}
	if !(d.MaxClockDrift > 0 && d.MaxClockDrift < 0.5) {
		wrong("MaxClockDrift: %v is not between 0 and 0.5", c.MaxClockDrift)
	} else if h, e := d.Heartbeat, d.ElectionTimeout; h > 0 && e/h >= 4 {
		if lease := log.LeaseLength(h, e, d.MaxClockDrift); 2*lease < minLease*h {
			wrong("ElectionTimeout: a lease lasts ElectionTimeout %v - Heartbeat %v - MaxClockDrift %v x %v = %v, which is less than %v heartbeats: one lost heartbeat ends it",
				e, h, d.MaxClockDrift, e, lease, minLease/2.0)
		}
	}
	if d.DialTimeout < 0 || d.DialTimeout > time.Minute {
		wrong("DialTimeout: %v is not 0 to 1m", c.DialTimeout)
	}
	if d.RetainFor < 0 {
		wrong("RetainFor: %v is negative", c.RetainFor)
	}
	if d.DrainTimeout < 0 {
		wrong("DrainTimeout: %v is negative", c.DrainTimeout)
	}
	if d.CoolDown < 0 {
		wrong("CoolDown: %v is negative", c.CoolDown)
	}
	if d.Preempt < 0 {
		wrong("Preempt: %v is negative", c.Preempt)
	}
	d.validateHealth(wrong)
	d.validateFence(wrong)
	if c.Watchdog != nil && c.Watchdog.Every() <= 0 {
		wrong("Watchdog: it is to be fed every %v", c.Watchdog.Every())
	}
	if d.MaxHandlers < 0 {
		wrong("MaxHandlers: %d is negative", c.MaxHandlers)
	}
	if d.MaxRecord < 1 || d.MaxRecord > 32<<20 {
		wrong("MaxRecord: %d is not 1 to 32 MiB", c.MaxRecord)
	}
	if least, why := d.leastFor(); d.MemoryBytes < 0 {
		wrong("MemoryBytes: %d is negative", d.MemoryBytes)
	} else if d.MemoryBytes > 0 && d.MemoryBytes < least && d.MaxRecord <= 32<<20 {
		wrong("MemoryBytes: %d is less than %d, %s", d.MemoryBytes, least, why)
	}
	if d.SnapshotLimit != 0 && d.SnapshotLimit < 1<<20 {
		wrong("SnapshotLimit: %d is less than 1 MiB a second", c.SnapshotLimit)
	}
	for _, b := range []struct {
		name string
		v    int64
	}{{"MaxPending", d.MaxPending}, {"CacheBytes", int64(d.CacheBytes)}, {"CheckpointBytes", d.CheckpointBytes}, {"RetainBytes", d.RetainBytes}, {"CursorBytes", d.CursorBytes}, {"MinFreeBytes", d.MinFreeBytes}} {
		if b.v < 0 {
			wrong("%s: %d is negative", b.name, b.v)
		}
	}
	return errors.Join(errs...)
}

// withoutAges makes times of more than a month one of a month, so that multiples of them, and sums, are times.
func (c Config) withoutAges() Config {
	const month = 30 * 24 * time.Hour
	c.ElectionTimeout = min(c.ElectionTimeout, month)
	c.Heartbeat = min(c.Heartbeat, c.ElectionTimeout/4)
	c.DrainTimeout, c.CoolDown = min(c.DrainTimeout, month), min(c.CoolDown, month)
	c.HealthInterval, c.HealthTimeout, c.Preempt = min(c.HealthInterval, month), min(c.HealthTimeout, month), min(c.Preempt, month)
	c.FenceTimeout = min(c.FenceTimeout, month)
	return c
}

// minLease is how many half heartbeats a lease must last: one heartbeat may be lost, and the next one half of one late.
const minLease = 5

// withDefaults fills in what was left zero, but for what depends on the memory (withBounds).
func (c Config) withDefaults() Config {
	c.Members = slices.Clone(c.Members) // the program may go on to change its own
	setDefault(&c.DialTimeout, time.Second)
	setDefault(&c.Heartbeat, 50*time.Millisecond)
	setDefault(&c.ElectionTimeout, 10*c.Heartbeat)
	setDefault(&c.MaxClockDrift, 0.01)
	setDefault(&c.DrainTimeout, 10*time.Second)
	setDefault(&c.CoolDown, 10*time.Second)
	setDefault(&c.HealthInterval, time.Second)
	setDefault(&c.HealthTimeout, 5*c.HealthInterval)
	setDefault(&c.HealthStrikes, 3)
	setDefault(&c.FenceTimeout, 10*time.Second)
	setDefault(&c.MaxRecord, 4<<20)
	setDefault(&c.MaxHandlers, 1024)
	setDefault(&c.CheckpointBytes, 64<<20)
	setDefault(&c.RetainBytes, 256<<20)
	setDefault(&c.CursorBytes, 1<<30)
	setDefault(&c.Version, builtVersion())
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
