package ha

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/calls"
	"github.com/baton-ha/baton/internal/lines"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
	"github.com/baton-ha/baton/transport"
)

// A Node is this process's member of the cluster. Its methods may be called by any goroutine at any
// time, from within the callbacks too, except where they say otherwise.
type Node struct {
	cfg   Config
	log   *log.Log
	disk  *storage.WAL
	birth *birth
	lines *lines.Queue // between us and the program's logger
	net   *transport.TCP
	self  transport.Peer // this member; its address is that of the configuration
	clock func() time.Duration

	role        role                    // owned by the log's loop
	cancel      context.CancelCauseFunc // of the present phase's ctx; owned by the log's loop
	cancelFence context.CancelCauseFunc // of OnFence's ctx; owned by the log's loop
	alarm       *time.Timer             // for the role's deadline; owned by the log's loop
	alarmAt     time.Duration
	founded     chan struct{}  // size 1: a token says that an epoch has started, and with the first the cluster got its id
	callbacks   sync.WaitGroup // and what writes that id
	calls       calls.Set      // of callbacks
	leaving     sync.WaitGroup // what ends after the log has stopped: the transport, and what watches

	answers []answer // of this step; owned by the log's loop

	tenure     atomic.Pointer[tenure]
	status     atomic.Pointer[Status]
	lost       atomic.Pointer[error]         // why the directory is gone
	changed    atomic.Pointer[chan struct{}] // closed and replaced after each change of status
	conditions conditions
	listed     atomic.Pointer[roster]
	relisted   chan struct{} // size 1: a token says that the list of the members is another
	elsewhere  elsewhere
	reshaping  chan struct{} // size 1: a token is in it while this member changes the list
	arrived    chan struct{} // size 1: a token says that a member waits to take the place of what it was
	hearsay    hearsay
	rounds     rounds
	caller     *wire.Caller
	handling   handling
	readers    chan struct{}      // size 1: a token says that somebody waits for a round
	speakers   sync.WaitGroup     // of news, and who tells them to whom
	hush       context.CancelFunc // ends them
	clients    clients
	workers    workers
	operators  operators

	leave     sync.Once
	gaveUp    atomic.Bool   // a role that begins is over
	hurry     chan struct{} // closed when nothing is to be waited for any more
	hurried   sync.Once
	ended     chan struct{} // closed when the role has ended for good
	closed    chan struct{} // closed when everything has ended
	heir      func()        // lets go of the heir
	stage     atomic.Value  // string: what is waited for on the way out
	misusedAt atomic.Int64
	events    recorder
	roles     roleCounts
	roleOf    roleElsewhere
	comings   comings
	repeats   repeats
	story     chronicle   // owned by the log's loop
	stuck     atomic.Bool // OnActive goes on, DrainTimeout after its ctx had ended

	pulse atomic.Int64 // when the loop last ran, on the node's clock
	// leaseEnd is until when the log has the lease, on the node's clock, whatever the role does with it.
	leaseEnd atomic.Int64
}

// Open starts this process's member and returns at once; the election goes on in the background. An
// error means that nothing was started, and, unless the directory is this member's already, that nothing
// was written: it reports all faults of the configuration, a port or a directory in use, a directory of
// somebody else, damaged files ([storage.CorruptError] names file and offset), and an empty directory
// of a member that the others have met before ([ErrForgotten]).
func Open(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults().withoutAges()
	queue := lines.New(cfg.Logger.Handler())
	cfg.Logger = queue.Logger()
	limit := memoryLimit()
	cfg = cfg.withBounds(limit)
	if share := shareOf(limit); cfg.MemoryBytes > share && limit > 0 {
		cfg.Logger.Warn("the member may take more than a quarter of the memory that the process may have", "member", cfg.Name,
			"bytes", cfg.MemoryBytes, "limit", limit)
	}
	dir, err := filepath.Abs(cfg.Dir) // the program may change its working directory
	if err != nil {
		return nil, fmt.Errorf("baton: open %s: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	n, err := openLabelled(cfg, queue)
	if err != nil {
		flushLines(queue)
		return nil, err
	}
	return n, nil
}

// openLabelled opens a member on a goroutine with labels, which all that it starts inherit, and so what those start: a profile of a process
// tells them from the program's own, and members from one another.
func openLabelled(cfg Config, queue *lines.Queue) (n *Node, err error) {
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("baton", cfg.Name, "cluster", cfg.Cluster)))
		n, err = open(cfg, queue, cfg.Join)
		if err != nil && cfg.Heal && curable(err) {
			n, err = heal(cfg, queue, err)
		}
	}()
	<-opened
	return n, err
}

// newNode returns a node of which nothing has been opened yet.
func newNode(cfg Config, queue *lines.Queue) *Node {
	n := &Node{cfg: cfg, lines: queue, clock: bootTime, founded: make(chan struct{}, 1), readers: make(chan struct{}, 1), relisted: make(chan struct{}, 1), arrived: make(chan struct{}, 1), reshaping: make(chan struct{}, 1), hurry: make(chan struct{}), ended: make(chan struct{}), closed: make(chan struct{})}
	n.changed.Store(new(make(chan struct{})))
	n.events.member, n.events.run = cfg.Name, time.Now().UnixNano()
	n.events.record(Event{Kind: EventOpened, Text: fmt.Sprintf("opened by process %d", os.Getpid())})
	return n
}

// open opens a member. With an empty directory it may be one that joins.
func open(cfg Config, queue *lines.Queue, joins bool) (*Node, error) {
	begin, err := cfg.begin(joins)
	if err != nil {
		return nil, fmt.Errorf("baton: open %s: %w", cfg.Dir, err)
	}
	if size := len(cfg.Members); size%2 == 0 && begin.fresh && !begin.joins {
		cfg.Logger.Warn("an even number of members survives no more losses than one member less", "member", cfg.Name, "members", size)
	}
	n := newNode(cfg, queue)
	return n, n.open(begin)
}

// open opens the parts in an order in which a failure leaves nothing behind: first what only looks,
// then the port, then the directory.
func (n *Node) open(begin beginning) (err error) {
	tc := n.transportConfig(begin)
	n.self = tc.Self
	if begin.fresh {
		if _, err := probe(tc); err != nil {
			return err
		}
	}
	if n.net, err = transport.Listen(tc); err != nil {
		return fmt.Errorf("baton: %w", err)
	}
	var members []log.Member
	for _, m := range n.cfg.Members {
		members = append(members, log.Member{ID: memberID(m.Name), Name: m.Name})
	}
	files := storage.Options{Identity: begin.id, Boot: log.Boot(members), Unborn: len(members) > 1, Logger: n.cfg.Logger.With("member", n.cfg.Name),
		MinFree: n.cfg.MinFreeBytes, Reserve: n.cfg.ReserveBytes}
	if begin.joins {
		files.Boot, files.Unborn = nil, false
	}
	n.disk, err = storage.Open(n.cfg.Dir, files)
	if err != nil {
		return errors.Join(fmt.Errorf("baton: open %s: %w", n.cfg.Dir, err), n.net.Close())
	}
	if err := n.checkMembers(members); err != nil {
		return errors.Join(fmt.Errorf("baton: open %s: %w", n.cfg.Dir, err), n.net.Close(), n.disk.Close())
	}
	guard, keep := log.Guard(n.disk.Promised(), n.cfg.ElectionTimeout)
	if err := n.disk.KeepPromised(keep); err != nil { // before the first promise is given
		return errors.Join(fmt.Errorf("baton: open %s: %w", n.cfg.Dir, err), n.net.Close(), n.disk.Close())
	}
	_, born := n.disk.Birth()
	n.birth = newBirth(n.cfg.Name, n.disk.Identity().Incarnation, born)
	b := boundsFor(n.cfg.MemoryBytes, len(members)-1, n.cfg.MaxRecord)
	_, _, n.story.kept, _ = n.disk.Recovered()
	n.log, err = log.Open(log.Config{
		Core: log.CoreConfig{
			ID: begin.id.ID, Name: n.cfg.Name, Heartbeat: n.cfg.Heartbeat, ElectionTimeout: n.cfg.ElectionTimeout,
			MaxClockDrift: n.cfg.MaxClockDrift, NoCrashEvidence: n.cfg.NoCrashEvidence, Guard: guard, Unborn: !born, Seed: random64(),
			MessageBytes: b.message, InflightBytes: b.inflight, ApplyingBytes: b.applying,
			UncommittedBytes: 2*uint64(min(n.cfg.MaxPending, math.MaxInt64/4)) + uint64(n.cfg.MaxRecord) + log.FullBatch, // MaxPending comes first
		},
		Logger: n.cfg.Logger, Storage: n.disk, Observer: observer{n}, Clock: n.clock, Wall: wallTime, StateMachine: n.cfg.StateMachine, Arbiter: n.cfg.arbiter(),
		Unreadable: n.unreadable,
		MaxRecord:  n.cfg.MaxRecord, MaxPending: n.cfg.MaxPending, CacheBytes: n.cfg.CacheBytes,
		InboxBytes: b.inbox, ReadBytes: b.subscribe,
		CheckpointBytes: n.cfg.CheckpointBytes, RetainBytes: n.cfg.RetainBytes, CursorBytes: n.cfg.CursorBytes, RetainFor: n.cfg.RetainFor,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("baton: open %s: %w", n.cfg.Dir, err), n.net.Close(), n.disk.Close())
	}
	n.enroll(n.log.Roster())
	if _, err := n.setPeers(); err != nil {
		return errors.Join(fmt.Errorf("baton: open %s: %w", n.cfg.Dir, err), n.net.Close(), n.log.Close())
	}
	_, epoch := n.log.Position()
	n.story.inForce = epoch
	n.role = newRole(roleConfig{
		id: n.self.ID, name: n.cfg.Name, cluster: n.cfg.Cluster, heartbeat: n.cfg.Heartbeat, electionTimeout: n.cfg.ElectionTimeout,
		drainTimeout: n.cfg.DrainTimeout, coolDown: n.cfg.CoolDown, strikes: n.strikes(),
		fenceTimeout: n.fenceTimeout(), fencePolicy: n.cfg.FencePolicy, arbiter: n.cfg.arbiter(), preempt: n.cfg.Preempt, away: n.cfg.StayAway, clusterID: [16]byte(randomBytes(16)),
		roster: n.log.Roster(),
	}, epoch)
	n.pulse.Store(int64(n.clock()))
	n.publish(n.clock())
	group, err := n.net.Group(groupID, n.log)
	if err != nil {
		return errors.Join(fmt.Errorf("baton: %w", err), n.net.Close(), n.log.Close())
	}
	if err := n.net.Handle(wire.KindMembers, []transport.Role{transport.RoleMember, transport.RoleOperator}, n.serveChanges); err != nil {
		return errors.Join(fmt.Errorf("baton: %w", err), n.net.Close(), n.log.Close())
	}
	speaking, hush := context.WithCancel(context.Background())
	n.hush = hush
	if err := errors.Join(n.startNews(speaking), n.serveClients(), n.startCalls(), n.serveOperators()); err != nil {
		hush()
		return errors.Join(fmt.Errorf("baton: %w", err), n.net.Close(), n.log.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := n.startReads(ctx); err != nil {
		cancel()
		hush()
		return errors.Join(fmt.Errorf("baton: %w", err), n.net.Close(), n.log.Close())
	}
	if len(n.cfg.FormWithout) > 0 {
		n.cfg.Logger.Warn("FormWithout is set: a new cluster may begin without members, and forgets what they know", "member", n.cfg.Name,
			"without", n.cfg.FormWithout, "born", born)
	}
	if !born {
		n.leaving.Go(func() { n.awaitBirth(ctx) })
	}
	n.leaving.Go(func() { n.seek(ctx) })
	if n.cfg.Heal {
		n.leaving.Go(func() { n.mend(ctx) })
		n.leaving.Go(n.condemn)
	}
	if keep > n.cfg.ElectionTimeout {
		n.leaving.Go(func() { n.forgetPromises(ctx, guard) })
	}
	n.callbacks.Go(n.keepClusterID)
	n.leaving.Go(func() { n.tend(ctx) })
	n.leaving.Go(func() { n.move(ctx) })
	if n.cfg.Advertise != "" {
		n.leaving.Go(func() { n.announce(ctx) })
	}
	n.leaving.Go(n.endCalls)
	n.leaving.Go(n.closePort)
	n.leaving.Go(n.watchLoop)
	n.leaving.Go(n.keepEvents)
	if n.cfg.Health != nil {
		n.callbacks.Go(n.watchHealth)
	}
	if n.cfg.Watchdog != nil {
		n.leaving.Go(n.feedWatchdog)
	}
	n.leaving.Go(func() {
		<-n.ended
		cancel()
	})
	opened := []any{"member", n.cfg.Name, "dir", n.cfg.Dir, "addr", n.self.Addr}
	if epoch.Epoch != 0 { // what is not in a checkpoint is learned from the log
		opened = append(opened, "epoch", epoch.Epoch)
	}
	n.cfg.Logger.Info("opened", opened...)
	n.heir = n.shareMemory()
	n.log.Start(group)
	n.disk.Watch(storage.Watch{Space: n.space, Lost: n.directoryLost})
	n.log.Post(wake{})
	return nil
}

// directoryLost ends a member whose directory is gone: for everybody to see at once, and in fact a moment later. Other
// members on this host may have lost theirs with it; they look at the same moment, and the role must not go to one that
// stops next.
func (n *Node) directoryLost(err error) {
	n.lost.Store(&err)
	n.wakeWatchers()
	select {
	case <-time.After(lostPause):
	case <-n.ended:
	}
	n.log.Fail(err)
}

const lostPause = 20 * time.Millisecond

// forgetPromises keeps no more than what this process promises, once the promises of earlier ones are over.
func (n *Node) forgetPromises(ctx context.Context, guard time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(guard):
		if err := n.disk.KeepPromised(n.cfg.ElectionTimeout); err != nil && !errors.Is(err, storage.ErrClosed) {
			n.cfg.Logger.Warn("the next start waits longer than it must", "member", n.cfg.Name, "guard", guard, "err", err)
		}
	}
}

// groupID is the log's group in the frames of the transport; a node has one.
const groupID = 1

// Append appends a record and returns its index once it is on stable storage of a majority and applied
// to this member's StateMachine: nothing can take it back (G1). The token must be the one that the
// present OnActive was given. The record is copied.
//
// Any other outcome is definite, the record is not in the log and never will be ([ErrFenced],
// *[NotActiveError], [ErrTooLarge], [ErrBusy], [ErrNoRoom], [ErrReentrant], [ErrClosed], or the cause of a ctx that had ended
// before), or it is [ErrUnknown] because ctx ended or the node closed too early (G3). On the Active itself a token that is none, or another
// cluster's, is [ErrNotActive] without who is.
func (n *Node) Append(ctx context.Context, t fence.Token, record []byte) (uint64, error) {
	// The clock is read when the record's batch is proposed: once for all that are in it, and later than
	// here.
	if err := n.rejects(t); err != nil {
		return 0, err
	}
	if h := n.handledBy(ctx); h != nil {
		return n.appendOneFor(ctx, h, t, record)
	}
	index, err := n.log.Append(ctx, t.Epoch, record)
	if err != nil {
		err = n.appendError(err)
	}
	return index, err
}

// Check returns nil if the token is the Active's of this moment, here: this member is the Active, in the
// token's epoch, and its lease has not ended by its clock, which is read at each call. Otherwise the
// error is [ErrFenced] if the token's time is over, or *[NotActiveError]. It costs a clock reading.
//
// nil means that no other member was Active when the clock was read (G4). It can be otherwise by the
// time that the caller acts on it; a guard that compares tokens cannot be fooled in this way.
func (n *Node) Check(t fence.Token) error {
	if now := n.tenure.Load(); now != nil && now.token == t && n.holds(now) {
		return nil
	}
	return n.reject(t)
}

// rejects returns nil if a token is the Active's of this moment, here; else why it is not.
func (n *Node) rejects(t fence.Token) error {
	if now := n.tenure.Load(); now != nil && now.token == t {
		return nil
	}
	n.roles.rejected.Add(1)
	return n.reject(t)
}

// reject says why a token is not the Active's of this moment.
func (n *Node) reject(t fence.Token) error {
	s := n.view(n.clock())
	switch {
	case s.State == Failed:
		return ErrClosed
	case (t.Cluster != n.cfg.Cluster || !t.Valid()) && s.Active == n.cfg.Name: // to name the Active would send the caller here again
		return fmt.Errorf("%w by the token %q, which OnActive was not given: that was %v", ErrNotActive, t, s.Token)
	case t.Cluster != n.cfg.Cluster || !t.Valid():
		return n.notActive()
	case t.Epoch < s.Epoch || t.Epoch == s.Epoch && t.Holder == n.cfg.Name:
		return ErrFenced
	}
	return n.notActive()
}

func (n *Node) notActive() error {
	s := n.view(n.clock())
	if s.State == Failed {
		return ErrClosed
	}
	return &NotActiveError{Active: s.Active, Addr: s.ActiveAddr, Advertise: s.ActiveAdvertise}
}

// Subscribe yields the committed records from an index on, 0 meaning 1, and then each new one as it is
// committed on this member, until ctx ends: 1, 2, 3 … without gap or duplicate, the same on every member
// (G6). It works on every member in every state. The error comes once, last: the cause of ctx,
// [ErrClosed], or a *[CompactedError] when the next record is no longer held. A slow subscriber slows
// nobody. It does not wait for the StateMachine: a record may be seen here before it is applied.
func (n *Node) Subscribe(ctx context.Context, from uint64) iter.Seq2[Entry, error] {
	return n.log.Subscribe(ctx, from)
}

// Become asks for a planned change of roles and waits for it.
//
// Become(ctx, Standby) on the Active ends OnActive's ctx, waits until it has returned, and hands over to
// the member that is well and best caught up; it returns nil when that one leads. [ErrNoSuccessor] means that
// there is none, and that nothing has changed; [ErrNotHandedOver] that it did not take over, and this
// member goes on in a new epoch. On any other member it returns nil at once.
//
// Become(ctx, Active) on a Standby asks the Active to hand over to this member in the same way, and
// returns nil once OnActive has been called here; [ErrNotChosen] means that the Active did not, after DrainTimeout and four
// election timeouts, or that an obstacle that may last stands in this member's way, after one. It ends a cool-down.
//
// Where obstacles are known to be the reason the error is an *[ObstacleError], which says whose and which.
//
// When ctx ends first, its cause is returned, and what was begun goes on. Within a callback or the state machine
// it returns [ErrReentrant]: it would wait for the callback to return.
func (n *Node) Become(ctx context.Context, s State) error {
	if s != Standby && s != Active {
		return fmt.Errorf("baton: Become(%v): only Active and Standby can be asked for", s)
	}
	if in := n.inside(); in != "" {
		return n.misused(fmt.Sprintf("Become(%v)", s), in)
	}
	return n.become(ctx, s, CauseAsked)
}

func (n *Node) become(ctx context.Context, s State, why string) error {
	return n.wish(ctx, func(w *wish) input {
		w.active, w.why = s == Active, why
		return become{w}
	})
}

// wish asks the role machine for something and waits for the answer.
func (n *Node) wish(ctx context.Context, in func(w *wish) input) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	n.log.Post(in(&wish{reply: done}))
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ended:
		select {
		case err := <-done: // it came first
			return err
		default:
			return ErrClosed
		}
	}
}

// flushLines gives the program's logger a moment to take the last lines.
func flushLines(queue *lines.Queue) {
	ctx, cancel := context.WithTimeout(context.Background(), lastLines)
	defer cancel()
	queue.Flush(ctx)
}

const lastLines = time.Second

// FromContext returns the node whose callback was given ctx, or a ctx made from it; nil if there is none.
// A callback may run before Open has returned, and finds its node in this way.
func FromContext(ctx context.Context) *Node {
	n, _ := ctx.Value(nodeKey{}).(*Node)
	return n
}

type nodeKey struct{}

func randomBytes(size int) []byte {
	b := make([]byte, size)
	rand.Read(b) // never fails
	return b
}

func random64() uint64 { return binary.LittleEndian.Uint64(randomBytes(8)) | 1 }
