package log

import (
	"runtime"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// A driver is the part of a [Log] that has no goroutine: the mailbox, the gatherer, the core and what it reads. Its owner turns
// it: a [Log]'s loop, or a [Loop]'s. Appends and mail may come from any goroutine.
type driver struct {
	core     *core.Core
	store    *Store
	observer Observer
	clock    func() time.Duration
	disk     Storage                          // of which only Written is asked
	hand     func(core.Effects) (done []Mail) // takes what is to be done, and returns what is done already
	yield    func()                           // lets those run who are about to append

	inbox   inbox
	gather  gatherer
	wall    wall
	fresh   freshness
	desk    desk
	applied progressMark // the last record that the state machine was given
	held    atomic.Bool  // more is known to be committed than the store's position says
	tells   atomic.Bool  // others are yet to be told what is committed
	heard   atomic.Int64 // when the leader last showed that it is alive
	rate    atomic.Int64 // of snapshots that are sent

	// Owned by who turns it.
	now     time.Duration            // of the last turn
	one     [1]Mail                  // room for a single event
	flying  map[*core.Batch]struct{} // proposed, not answered
	written uint64                   // bytes that the disk had written when this was last looked at
	ready   time.Duration            // since when the next batch could be proposed, 0: it could not
	crowd   crowd
	told    core.Heard // by the leader, last
}

// add gives a copy of records to the gatherer, whose batch they join, the first as the at-th.
func (d *driver) add(epoch uint64, records ...[]byte) (b *pending, at int, err error) {
	b, at, first, err := d.gather.add(epoch, records...)
	if first {
		d.inbox.poke()
	}
	return b, at, err
}

// turn is one turn of the loop: what has come in is stepped, and the next batch, if it is ripe, is proposed. It returns how
// long the loop may sleep unless something comes in; 0: not at all.
func (d *driver) turn() (idle time.Duration, err error) {
	events, closed := d.inbox.take()
	if closed {
		return 0, d.inbox.reason()
	}
	now := d.clock()
	d.now = now
	var ahead time.Duration // the clock on the wall, of now
	if d.wall.clock != nil {
		ahead = d.wall.clock() - now
		d.core.Align(ahead)
	}
	if d.core.Asks() {
		if by, ahead := d.wall.look(ahead, d.clock); by > 0 {
			if err := d.step(now, d.single(core.Doubt{By: by})); err != nil {
				return 0, err
			}
			d.wall.settle(ahead)
		}
	} else {
		d.wall.forget()
	}
	if now >= d.core.Deadline() {
		if written := d.disk.Written(); written != d.written {
			d.written = written
			events = append(events, core.Writing{})
		}
		events = append(events, core.Tick{})
	}
	if err := d.step(now, events); err != nil {
		return 0, err
	}
	b, mail := d.ripe(now)
	switch {
	case b == nil && (mail || len(events) > 0):
		return 0, nil
	case b == nil && d.crowd.awaited:
		return max(1, min(d.core.Deadline(), d.ready+d.crowd.patience(d.core.Patience()))-now), nil
	case b == nil:
		return d.core.Deadline() - now, nil
	}
	d.flying[&b.Batch] = struct{}{}
	if b.Size() > core.MaxSync { // raft copies it
		if err := d.step(now, d.single(core.Hurry{})); err != nil {
			return 0, err
		}
	}
	err = d.step(d.clock(), d.single(core.Propose{Batch: &b.Batch}))
	b.free()
	return 0, err
}

// ripe returns the next batch once it is to be proposed. One that still grows is not: yielding lets those
// append who are about to, first of all those whose last appends have just been answered. So the
// appenders that wait for one another's batches end up in one batch, which halves their waiting. Those that are in other processes
// are waited for by the crowd.
//
// mail: something has come in meanwhile that is to be taken first, as it may answer more appenders. The loop may not have been woken for it
// (see done), and would sleep with the batch.
func (d *driver) ripe(now time.Duration) (b *pending, mail bool) {
	for {
		size := d.gather.size(d.core.Room)
		if size == 0 {
			d.ready, d.crowd.awaited = 0, false
			return nil, false
		}
		if d.ready == 0 {
			d.ready = now
		}
		if size < FullBatch && now-d.ready < d.core.Patience() {
			d.yield()
			if d.inbox.waits() {
				return nil, true
			}
			if d.gather.size(d.core.Room) > size {
				now = d.clock()
				continue
			}
		}
		if now-d.ready < d.crowd.patience(d.core.Patience()) && d.core.Underway() == 0 && d.crowd.await(size) && d.gather.await(d.crowd.target()) {
			return nil, false
		}
		d.crowd.taken(size)
		d.ready = 0
		return d.gather.take(d.core.Room), false
	}
}

// committed returns a record behind everything that anybody can have been told to be committed, by this member while it leads alone;
// false: it is not known at this moment.
func (d *driver) committed() (index uint64, ok bool) {
	if d.held.Load() { // first: what leaves after this moment was not told before it
		return 0, false
	}
	d.store.mu.RLock()
	defer d.store.mu.RUnlock()
	return d.store.pos.Index, true
}

// single makes a step of one event.
func (d *driver) single(ev Event) []Mail {
	d.one[0] = ev
	return d.one[:]
}

// step steps the core, hands the effects out and answers the appenders.
func (d *driver) step(now time.Duration, events []Mail) error {
	for len(events) > 0 {
		underway := d.core.Underway()
		eff, err := core.Drive(d.core, d.observer, now, events)
		if err != nil {
			return err
		}
		if d.core.Underway() < underway { // before anybody learns it, and appends again
			d.crowd.saw(underway + d.gather.size(anySize))
		}
		if tells := d.core.Tells(); tells != d.tells.Load() { // before anybody here can see what is committed
			d.tells.Store(tells)
		}
		d.store.Stepped(d.core, eff)
		if held := !d.core.Moved(); held != d.held.Load() { // before anything leaves
			d.held.Store(held)
		}
		if heard := int64(d.core.Heard()); heard != d.heard.Load() {
			d.heard.Store(heard)
		}
		if rate := d.core.SnapshotRate(now); rate != d.rate.Load() {
			d.rate.Store(rate)
		}
		if told := d.core.Told(); told != d.told {
			d.told = told
			d.fresh.told(told, d.applied.Load())
		}
		events = d.hand(eff)
		for _, r := range eff.Reads {
			r.Reader.Read(r.Index, r.Err)
		}
		for _, done := range eff.Done {
			delete(d.flying, done.Batch)
			done.Batch.Waiter.Settle(done.Err)
		}
	}
	return nil
}

// A Loop is the loop of a [Log] with its mailbox and gatherer, and nothing else of it: no goroutine, clock, network or disk. Whoever
// has it turns it, and carries out what it asks for. The simulator does; a program wants a [Log].
type Loop struct{ d driver }

// LoopConfig says what a [Loop] is made of.
type LoopConfig struct {
	Core       *core.Core
	Store      *Store
	Storage    Storage // of the Store
	Observer   Observer
	Clock      func() time.Duration
	Wall       func() time.Duration             // nil: it is not looked at
	Hand       func(core.Effects) (done []Mail) // carries effects out, which are valid until it returns
	Yield      func()                           // called where a Log lets other goroutines run, who may append
	MaxPending int64
}

// NewLoop returns a loop.
func NewLoop(cfg LoopConfig) *Loop {
	l := &Loop{driver{
		core: cfg.Core, store: cfg.Store, disk: cfg.Storage, observer: cfg.Observer, clock: cfg.Clock, hand: cfg.Hand, yield: cfg.Yield,
	}}
	l.d.wall.clock, l.d.wall.slack = cfg.Wall, cfg.Core.Heartbeat()/wallSlack
	l.d.init(cfg.MaxPending, 0)
	return l
}

func (d *driver) init(maxPending int64, inboxBytes int) {
	d.inbox = inbox{wake: make(chan struct{}, 1), drained: make(chan struct{}, 1), limit: inboxBytes}
	d.gather = gatherer{limit: maxPending}
	d.gather.counts.first = func(first Acknowledged) { d.inbox.post(first, 0) }
	d.flying = make(map[*core.Batch]struct{})
	if d.yield == nil {
		d.yield = runtime.Gosched
	}
}

// Turn is one turn. It returns how long the loop may sleep then unless it is woken, or 0 if it is to turn again at once.
func (l *Loop) Turn() (idle time.Duration, err error) { return l.d.turn() }

// Ripe reports whether there is a batch that could be proposed and waits for nobody. A loop that sleeps has none.
func (l *Loop) Ripe() bool { return l.d.gather.size(l.d.core.Room) > 0 && !l.d.crowd.awaited }

// Committed is [Log.Committed].
func (l *Loop) Committed() (index uint64, ok bool) { return l.d.committed() }

// Woken reports whether something has come in that a sleeping loop is woken by, once.
func (l *Loop) Woken() bool {
	select {
	case <-l.d.inbox.wake:
		return true
	default:
		return false
	}
}

// Post is [Log.Post].
func (l *Loop) Post(mail Mail) { l.d.inbox.post(mail, 0) }

// Append is [Log.AppendAsync].
func (l *Loop) Append(epoch uint64, records ...[]byte) (Appended, error) {
	b, at, err := l.d.add(epoch, records...)
	return Appended{claim{place: place{b, at, len(records)}}}, err
}

// Applied takes note of an apply, and settles the appends of this member that it is the fate of, with the state machine's answers to its records, nil if
// it gives none. The loop is told.
func (l *Loop) Applied(a *core.Apply, given [][]byte) error {
	if err := l.d.desk.applied(a, given); err != nil {
		return err
	}
	l.d.applied.move(a.Position.Index)
	settle(a, given, given != nil)
	l.d.done(core.Applied{Apply: a}, a.Patient)
	return nil
}

// Written says that writes are durable.
func (l *Loop) Written(writes []*core.Write) { l.d.answer(writes) }

// Restore goes on from what a checkpoint says of sessions.
func (l *Loop) Restore(snap *raftpb.Snapshot) error { return l.d.desk.restore(snap) }

// Sessions is what a checkpoint says of them.
func (l *Loop) Sessions() []byte { return l.d.desk.encode() }

// OpenSession is [Log.OpenSession].
func (l *Loop) OpenSession(epoch uint64) (core.SessionID, error) { return l.d.desk.open(epoch) }

// AppendOnce is [Log.AppendOnce].
func (l *Loop) AppendOnce(epoch uint64, id core.RequestID, records ...[]byte) (Appended, error) {
	c, first, err := l.d.desk.append(&l.d.gather, epoch, id, records)
	if first {
		l.d.inbox.poke()
	}
	return Appended{c}, err
}

// Appended is an append whose fate is on its way.
type Appended struct{ claim }

// Batch is the batch that the record is in, nil if it is a request that had taken effect before.
func (a Appended) Batch() *core.Batch {
	if a.b == nil {
		return nil
	}
	return &a.b.Batch
}

// Fate returns what [Pending.Wait] returns, once it is known.
func (a Appended) Fate() (result Result, known bool, err error) {
	select {
	case <-a.done():
		result, err = a.result()
		return result, true, err
	default:
		return Result{}, false, nil
	}
}
