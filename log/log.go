package log

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/calls"
	"github.com/baton-ha/baton/internal/core"
)

// Config says what a [Log] is made of. All fields but StateMachine are required.
type Config struct {
	Core     CoreConfig // but its Logger
	Logger   *slog.Logger
	Storage  Storage // owned by the log from Open on
	Observer Observer
	// Clock is monotonic, counts the time in which the machine sleeps, and is never 0.
	Clock func() time.Duration
	// Wall is the time of day, since any moment. Nil: it is not looked at, and nobody notices that Clock
	// has stood still.
	Wall         func() time.Duration
	StateMachine StateMachine // optional
	// Arbiter: this member keeps the states of state machines without understanding them, and makes none itself. It has no
	// StateMachine, and the others may have one or none.
	Arbiter bool

	MaxRecord       int           // bytes of one record
	MaxPending      int64         // bytes of appends whose fate is unknown; more get [ErrBusy]
	CacheBytes      int           // bytes of recent entries kept in memory
	InboxBytes      int           // bytes of entries that wait to be stepped; 0: 64 MiB
	ReadBytes       int           // bytes that a subscriber reads at a time; 0: 1 MiB
	CheckpointBytes int64         // bytes of entries applied between two checkpoints
	RetainBytes     int64         // bytes of entries kept behind a checkpoint, at least
	RetainFor       time.Duration // how long they are kept besides, where there is room on the disk; 0: no longer

	CursorBytes int64 // bytes of entries kept besides for readers that have a cursor, at most

	// Unreadable, if not nil, is told why old records could not be given to a reader. It must not block. Any goroutine.
	Unreadable func(error)
}

// Stopped is what the [Observer] sees, last, when the log has stopped: Err is nil after Close, and
// otherwise says what broke. Unknown is how many records have no fate then.
type Stopped struct {
	Err     error
	Unknown uint64
}

// Mail implements [Mail].
func (Stopped) Mail() {}

// A Log is one member's replicated log: the driver around a [Core]. It owns the goroutines, the
// clock and the files; the core decides. All methods may be called by any goroutine at any time.
type Log struct {
	driver // turned by run

	cfg     Config
	writes  queue[*core.Write]
	applies queue[*core.Apply] // nil: a checkpoint may be wanted although none is due
	fetches queue[*core.Fetch]
	net     Transport
	check   *Checkpointer

	answerer Answerer // the state machine, if it is one

	counts counts

	moves   moves        // of cursors
	asked   sync.Map     // who waits for changes of the members: *core.Reconfiguration to chan core.Decided
	told    sync.Map     // how records in memory were found changed
	calls   calls.Set    // of the state machine
	inside  atomic.Int32 // how many of those run that nothing can be applied before the end of
	writing atomic.Bool  // the writer is at the disk
	misfit  atomic.Bool  // a leader's snapshot was refused, and nothing was applied since

	roomMu sync.Mutex // guards full
	full   bool       // appends are refused for want of checkpoints

	workers sync.WaitGroup
	saving  sync.WaitGroup // of checkpoints
	ending  chan struct{}  // closed when the loop has ended
	stopped chan struct{}  // closed when everything has ended
	once    sync.Once
	err     error // why it ended; read after stopped is closed
}

// Open builds a log on what the storage has recovered: the state machine, if there is one, is restored
// from the newest snapshot before Open returns. Nothing runs before Start. When Open fails, the
// storage is still the caller's.
func Open(cfg Config) (*Log, error) {
	store, err := NewStore(cfg.Storage, cfg.CacheBytes)
	if err != nil {
		return nil, err
	}
	cfg.Core.Logger = raftLines{cfg.Logger}
	c, err := core.New(cfg.Core, store, cfg.Clock())
	if err != nil {
		return nil, err
	}
	l := &Log{
		driver:  driver{core: c, store: store, observer: cfg.Observer, clock: cfg.Clock, disk: cfg.Storage},
		cfg:     cfg,
		writes:  newQueue[*core.Write](),
		applies: newQueue[*core.Apply](),
		fetches: newQueue[*core.Fetch](),
		ending:  make(chan struct{}),
		stopped: make(chan struct{}),
	}
	l.hand = l.dispatch
	l.init(cfg.MaxPending, cmp.Or(cfg.InboxBytes, 64<<20))
	l.store.damaged = l.damaged
	l.wall.clock, l.wall.slack = cfg.Wall, cfg.Core.Heartbeat/wallSlack
	l.check = NewCheckpointer(store, cfg.CheckpointBytes, cfg.RetainBytes)
	l.check.CursorBytes = cfg.CursorBytes
	l.check.keep(cfg.RetainFor, cfg.Clock)
	l.check.machine = machineName(cfg.StateMachine)
	l.check.Sessions = l.desk.encode
	l.answerer, _ = cfg.StateMachine.(Answerer)
	if err := l.restoreAny(store.latest()); err != nil {
		return nil, err
	}
	l.applied.Store(store.pos.Index)
	l.fresh.begin(cfg.Clock())
	return l, nil
}

// Start starts the log's goroutines. Messages go out through net; what comes in is handed to Receive.
func (l *Log) Start(net Transport) {
	l.net = net
	l.workers.Add(3)
	go l.runWriter()
	go l.runApplier()
	go l.runFetcher()
	go l.run()
}

// Close stops the log, waits for its goroutines and closes the storage. Appends that are under way get
// [ErrUnknown] or, if they never got as far as the log, [ErrClosed]. It is idempotent.
func (l *Log) Close() error {
	l.inbox.close(nil)
	if l.net == nil { // never started
		l.once.Do(func() { l.err = l.cfg.Storage.Close(); close(l.stopped) })
	}
	<-l.stopped
	return l.err
}

// Append appends a copy of one record in an epoch. It returns the record's index once the record is on
// stable storage of a majority and applied here. Otherwise the error is one of this package's: all but
// [ErrUnknown] mean that the record is not in the log and never will be; so does the error of a ctx
// that had ended before the call.
func (l *Log) Append(ctx context.Context, epoch uint64, record []byte) (uint64, error) {
	// Whoever waits here is woken together with all others of the batch, and finds his stack in no cache. So little of it is used: this is
	// AppendAsync and Wait without what they carry.
	b, at, err := l.enter(ctx, epoch, record)
	if err == nil {
		select {
		case <-b.done:
		case <-ctx.Done():
			err = l.leave(ctx, b.done)
		}
	}
	if err == nil {
		err = b.err
	}
	if err != nil {
		l.counts.outcome(err)
		return 0, err
	}
	return b.First + uint64(at), nil
}

// enter begins an append of one record.
func (l *Log) enter(ctx context.Context, epoch uint64, record []byte) (*pending, int, error) {
	switch {
	case ctx.Err() != nil:
		return nil, 0, context.Cause(ctx)
	case len(record) > l.cfg.MaxRecord:
		return nil, 0, l.tooLarge(1, len(record))
	case l.reentrant():
		return nil, 0, ErrReentrant
	}
	b, at, first, err := l.gather.addOne(epoch, record)
	if first {
		l.inbox.poke()
	}
	return b, at, err
}

// leave says what is known of an append whose ctx has ended: nothing, unless its fate became known at the same moment.
func (l *Log) leave(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	default:
		l.counts.abandoned.Add(1)
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// Stop begins what Close waits for.
func (l *Log) Stop() { l.inbox.close(nil) }

// Heard returns when the leader last showed that it is alive, on this member's clock.
func (l *Log) Heard() time.Duration { return time.Duration(l.heard.Load()) }

// Done is closed when the log has stopped and every goroutine of it has ended.
func (l *Log) Done() <-chan struct{} { return l.stopped }

// Fail stops the log because of an error outside it. The first error counts.
func (l *Log) Fail(err error) { l.inbox.close(err) }

// Post puts something into the mailbox: an [Event] for the core, anything else for the observer.
func (l *Log) Post(mail Mail) { l.inbox.post(mail, 0) }

// Position returns the last committed record's index and the epoch in force, as this member knows.
func (l *Log) Position() (index uint64, epoch Epoch) {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	return l.store.pos.Index, l.store.pos.Epoch()
}

// Applied returns the index of the last record that is applied to the state machine here.
func (l *Log) Applied() uint64 { return l.applied.Load() }

// ClusterID returns the id that the cluster was given in its first epoch, zero before.
func (l *Log) ClusterID() [16]byte {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	return l.store.pos.ClusterID
}

// Epochs returns the history of epochs, oldest first, as far as it is kept.
func (l *Log) Epochs() []Epoch {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	return append([]Epoch(nil), l.store.pos.Epochs...)
}

// The methods by which a transport brings what it receives.

// Receive takes a message of another member, whose batches are what was appended: that is for whoever has received it to find out, who sums
// them anyway. Appends and their answers wait while the inbox is full; what keeps the member alive does not.
func (l *Log) Receive(m *raftpb.Message) {
	size := 0
	if t := m.GetType(); t == raftpb.MsgApp || t == raftpb.MsgAppResp {
		size = messageBytes
	}
	for _, e := range m.GetEntries() {
		size += core.EntrySize(e)
	}
	l.inbox.post(core.Receive{Message: m, At: l.cfg.Clock()}, size)
}

// problemChecksum is the kind of problem that records in memory are not what was appended.
const problemChecksum = "checksum"

// damaged takes note of records in memory that somebody has written to. Each way of finding it is told once: it is
// a mistake in the program, which will not go away.
func (l *Log) damaged(damage *ChecksumError) {
	if _, told := l.told.LoadOrStore(damage.When, nil); told {
		return
	}
	l.Post(Problem{Kind: problemChecksum, Err: damage})
}

// messageBytes is about what a message takes in memory beside its entries' data.
const messageBytes = 256

// Unreachable takes note that messages to a member were lost or, if dropped, not sent.
func (l *Log) Unreachable(id uint64, dropped bool) {
	l.Post(core.Unreachable{ID: id, Dropped: dropped})
}

// Now reads the log's clock, for Gone.
func (l *Log) Now() time.Duration { return l.cfg.Clock() }

// Gone takes note that the process that was a member at a time has ended.
func (l *Log) Gone(id uint64, at time.Duration) { l.Post(core.Gone{ID: id, At: at}) }

// SnapshotSent takes note of how sending a snapshot ended.
func (l *Log) SnapshotSent(m *raftpb.Message, err error) {
	l.counts.snapshotSent(err)
	l.Post(core.SnapshotSent{Message: m, OK: err == nil})
}

// SnapshotRate is at how many bytes a second snapshots should be sent at present, all of them together, so that appends do not suffer.
// 0: no limit.
func (l *Log) SnapshotRate() int64 { return l.rate.Load() }

// OpenSnapshot opens the body of a snapshot that is to be sent.
func (l *Log) OpenSnapshot(want *raftpb.Snapshot) (io.ReadCloser, int64, error) {
	have, body, size, err := l.cfg.Storage.OpenSnapshot()
	if err != nil {
		return nil, 0, err
	}
	if h, w := have.GetMetadata().GetIndex(), want.GetMetadata().GetIndex(); h != w {
		body.Close()
		return nil, 0, fmt.Errorf("snapshot at raft index %d was replaced by one at %d", w, h)
	}
	return body, size, nil
}

// ReceiveSnapshot takes a snapshot message whose body is read from r. Its error matches [net.ErrClosed] where the log was closed meanwhile.
func (l *Log) ReceiveSnapshot(m *raftpb.Message, size int64, r io.Reader) (err error) {
	defer func() {
		l.counts.snapshotReceived(err)
		if err != nil && l.inbox.ended() {
			err = fmt.Errorf("%w: %w", net.ErrClosed, err)
		}
	}()
	cp, err := core.ParseCheckpoint(m.GetSnapshot())
	if err != nil {
		return err
	}
	if err := l.takes(&cp, size); err != nil {
		l.misfit.Store(true)
		l.Post(Problem{Kind: problemSnapshot, Err: err})
		return err
	}
	if err := l.store.StageSnapshot(m.GetSnapshot(), r); err != nil {
		return err
	}
	if l.cfg.Arbiter {
		if err := l.adopt(m.GetSnapshot(), size); err != nil {
			return err
		}
	}
	l.Post(core.Receive{Message: m, At: l.cfg.Clock()})
	return nil
}
