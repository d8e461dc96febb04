package log

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A Checkpointer writes a checkpoint whenever enough has been applied since the last, and cuts the log
// behind an older one. One checkpoint is written at a time. One that fails loses nothing: the log is kept
// instead, up to a bound, and it is tried again.
type Checkpointer struct {
	store   *window
	every   int64  // bytes of entries between two checkpoints
	bound   int64  // bytes of entries that are kept without a checkpoint while it fails
	retain  int64  // bytes of entries kept behind a checkpoint, at least
	machine string // the type of the state machine

	since int64 // bytes applied since the last one was begun; owned by whoever calls Due

	mu     sync.Mutex // guards everything below
	busy   bool       // one is being written, or is to be tried again
	made   []cutPoint // candidates for the log's new base, oldest first
	size   int64      // bytes of the last state that was written
	last   Apply      // position of the last apply, and the bytes applied since the start
	saved  int64      // last.total at the last one that was written
	failed error      // why the last one was not written
	pause  time.Duration
}

const (
	// boundCheckpoints is how many times CheckpointBytes of log are kept while no checkpoint can be written, and
	// minBound how many bytes at least.
	boundCheckpoints = 16
	minBound         = 256 << 20
	// The pauses between two attempts grow from the one to the other.
	minCheckpointPause = time.Second
	maxCheckpointPause = time.Minute
)

// A cutPoint is a checkpoint that the log may be cut behind.
type cutPoint struct {
	base  base
	total int64
}

// NewCheckpointer returns the checkpointer of a core's log.
func NewCheckpointer(c *Core, every, retain int64) *Checkpointer {
	return &Checkpointer{store: c.store, every: every, retain: retain, bound: max(boundCheckpoints*every, minBound),
		made: []cutPoint{{base: c.store.oldest()}}}
}

// Due counts an apply and reports whether a checkpoint is to be made after it. If so the caller must
// capture the state machine before the next apply, and then call Save, from any goroutine.
func (c *Checkpointer) Due(a *Apply) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since += int64(a.Bytes)
	c.last = Apply{pos: a.pos, term: a.term, total: c.last.total + int64(a.Bytes)}
	if a.Snapshot != nil {
		c.saved = c.last.total
	}
	if c.since < c.every || c.busy {
		return false
	}
	c.busy, c.since = true, 0
	a.total = c.last.total
	return true
}

// fail takes note of why a checkpoint was not written, and returns when to try again.
func (c *Checkpointer) fail(err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
	c.pause = min(max(2*c.pause, minCheckpointPause), maxCheckpointPause)
	return c.pause
}

// again returns the position after the last apply, at which a checkpoint that failed is to be tried again.
func (c *Checkpointer) again() *Apply {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.last
	a.again = true
	return &a
}

// full returns an [ErrNoRoom] when so much log is kept for want of a checkpoint that there must not be more. One that
// is being written may take its time over a large state.
func (c *Checkpointer) full() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	why, bound := c.failed, c.bound
	if why == nil {
		why, bound = errNoEnd, bound+2*c.size
	}
	if kept := c.last.total - c.saved; c.busy && kept > bound {
		return fmt.Errorf("%w: %d bytes of log are kept for want of a checkpoint: %w", ErrNoRoom, kept, why)
	}
	return nil
}

// errNoEnd is why there is no checkpoint although none has failed.
var errNoEnd = errors.New("the one that is being written does not come to its end")

// Save writes the checkpoint after an apply, with the state machine's capture unless that is nil because there is
// none, and cuts the log.
func (c *Checkpointer) Save(a *Apply, body io.WriterTo) (err error) {
	defer catch("checkpoint", &err)
	var sized *counted
	point := cutPoint{base: base{Raft: a.pos.Raft, Term: a.term, Index: a.pos.Index}, total: a.total}
	c.mu.Lock()
	cut := c.made[0]
	for _, p := range c.made {
		behind := point.total - p.total
		if behind >= c.retain && (c.store.mayCut(p.base.Raft) || behind > c.retain+pinCheckpoints*c.every+c.size) {
			cut = p
		}
	}
	c.mu.Unlock()
	if b := c.store.oldest(); b.Raft > cut.base.Raft {
		cut.base = b // a leader's snapshot has replaced the log
	}
	latest := c.store.latest().GetMetadata()
	if latest.GetIndex() < a.pos.Raft { // else a leader's snapshot has overtaken this one
		header := checkpoint{
			Version: checkpointVersion, Position: a.pos.since(cut.base.Raft), Base: cut.base, Terms: c.store.termsUpTo(cut.base, a.pos.Raft),
			Members: c.store.voters(), State: stateOf, Machine: c.machine,
		}
		if body == nil {
			header.State = stateNone
		}
		snap := newSnapshot(a.term, latest.GetConfState(), header)
		if body != nil {
			sized = &counted{WriterTo: body}
			body = sized
		}
		if err := c.store.disk.SaveSnapshot(snap, body); err != nil {
			return err
		}
		c.store.checkpointed(snap, cut.base)
		if err := c.store.disk.Compact(cut.base.Raft); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sized != nil {
		c.size = sized.n
	}
	c.made = append(c.made, point)
	for len(c.made) > 1 && c.made[1].base.Raft <= cut.base.Raft {
		c.made = c.made[1:]
	}
	c.busy, c.saved, c.failed, c.pause = false, a.total, nil, 0
	return nil
}
