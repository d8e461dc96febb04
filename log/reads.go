package log

import (
	"context"

	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// This file is about reads of the state machine: up to where it must be, waiting until it is, and how far behind it may be.

// ReadIndex returns the last record that can have been acknowledged anywhere before the call, if this member leads. A leader without
// a lease waits for one for two heartbeats; then, and on other members at once, the error is [ErrNotLeader]. Else it is the
// cause of ctx, or [ErrClosed].
func (l *Log) ReadIndex(ctx context.Context) (uint64, error) {
	r := make(reading, 1)
	l.Post(core.Read{Reader: r})
	select {
	case d := <-r:
		return d.Index, d.Err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-l.ending:
		return 0, ErrClosed
	}
}

// Committed returns a record behind everything that can have been acknowledged anywhere, or read on any member, before the call: if this member
// leads, and nobody else can. It costs a short lock. false: it is not known at this moment, and ReadIndex waits for it.
func (l *Log) Committed() (index uint64, ok bool) { return l.committed() }

// TellCommitted has this member, if it leads, tell the others what is committed, which is otherwise said with the next batch where one is expected
// at any moment: somebody waits for it on another member. It does not block.
func (l *Log) TellCommitted() {
	if l.tells.Load() {
		l.Post(core.Tell{})
	}
}

// A reading waits for the answer to one read: it has room for it.
type reading chan core.ReadDone

// Read implements [core.Reader].
func (r reading) Read(index uint64, err error) { r <- core.ReadDone{Index: index, Err: err} }

// AwaitApplied waits until the state machine here has been given a record. Its error is the cause of ctx, or [ErrClosed].
func (l *Log) AwaitApplied(ctx context.Context, index uint64) error {
	for l.applied.Load() < index {
		changed, stop := l.applied.watch()
		if l.applied.Load() < index {
			select {
			case <-changed:
			case <-ctx.Done():
			case <-l.ending:
			}
		}
		stop()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case l.over():
			return ErrClosed
		}
	}
	return nil
}

// over reports whether the loop has ended.
func (l *Log) over() bool {
	select {
	case <-l.ending:
		return true
	default:
		return false
	}
}

// A progressMark is how far something is. Moving it costs two atomic operations while nobody watches.
type progressMark struct {
	atomic.Uint64
	watchers atomic.Int32

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed when it has moved; nil: nobody has asked since
}

// move moves the mark.
//
// Invariant: who watches looks at the mark after it is counted among the watchers, and who moves it looks at them after moving it. So one
// of them sees the other.
func (m *progressMark) move(to uint64) {
	m.Store(to)
	if m.watchers.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// watch returns a channel that is closed when the mark has moved since. stop ends the watch.
func (m *progressMark) watch() (changed <-chan struct{}, stop func()) {
	m.watchers.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed, func() { m.watchers.Add(-1) }
}

// Lag is how far a member may be behind what is acknowledged, as far as it knows.
type Lag struct {
	// Records that the leader is known to have and that are not applied here.
	Records uint64
	// Time in which records may have been acknowledged that are not applied here: since the last sign of life of a leader whose
	// records of that moment are applied here came in, or since the start if there was none. How long that sign
	// had been on its way is not in it.
	Time time.Duration
}

// Lag returns how far behind this member may be. It costs a short lock and a look at the clock.
func (l *Log) Lag() Lag {
	index, _ := l.Position()
	return l.fresh.lag(l.applied.Load(), index, l.clock())
}

// freshness is what is known of how fresh the state is here.
type freshness struct {
	mu      sync.Mutex    // guards everything below
	at      time.Duration // everything that was acknowledged up to then is applied here
	next    core.Heard    // will be at, once it is applied; zero: nothing is waited for
	highest uint64        // record that a leader has told of
}

// begin says that nothing is known at the start.
func (f *freshness) begin(now time.Duration) { f.at = now }

// told takes what a leader says of its log.
func (f *freshness) told(h core.Heard, applied uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked(applied)
	f.highest = max(f.highest, h.Index)
	if h.Index <= applied {
		f.at, f.next = max(f.at, h.At), core.Heard{}
	} else if f.next == (core.Heard{}) {
		f.next = h
	}
}

// lookLocked notices that what was waited for is applied.
func (f *freshness) lookLocked(applied uint64) {
	if f.next != (core.Heard{}) && f.next.Index <= applied {
		f.at, f.next = max(f.at, f.next.At), core.Heard{}
	}
}

// lag is how far behind a member is that has applied and knows to be committed so much.
func (f *freshness) lag(applied, committed uint64, now time.Duration) Lag {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookLocked(applied)
	return Lag{Records: max(f.highest, committed, applied) - applied, Time: max(0, now-f.at)}
}
