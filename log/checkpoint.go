package log

import (
	"io"
	"sync"
)

// A Checkpointer writes a checkpoint whenever enough has been applied since the last, and cuts the log
// behind an older one. One checkpoint is written at a time.
type Checkpointer struct {
	store   *window
	every   int64  // bytes of entries between two checkpoints
	retain  int64  // bytes of entries kept behind a checkpoint, at least
	machine string // the type of the state machine

	since int64 // bytes applied since the last one was begun; owned by whoever calls Due
	total int64 // bytes applied since the start; likewise

	mu   sync.Mutex // guards everything below
	busy bool
	made []cutPoint // candidates for the log's new base, oldest first
}

// A cutPoint is a checkpoint that the log may be cut behind.
type cutPoint struct {
	base  base
	total int64
}

// NewCheckpointer returns the checkpointer of a core's log.
func NewCheckpointer(c *Core, every, retain int64) *Checkpointer {
	return &Checkpointer{store: c.store, every: every, retain: retain, made: []cutPoint{{base: c.store.oldest()}}}
}

// Due counts an apply and reports whether a checkpoint is to be made after it. If so the caller must
// capture the state machine before the next apply, and then call Save, from any goroutine.
func (c *Checkpointer) Due(a *Apply) bool {
	c.since += int64(a.Bytes)
	c.total += int64(a.Bytes)
	if c.since < c.every {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		return false
	}
	c.busy, c.since = true, 0
	a.total = c.total
	return true
}

// Save writes the checkpoint after an apply, with the state machine's capture unless that is nil because there is
// none, and cuts the log.
func (c *Checkpointer) Save(a *Apply, body io.WriterTo) (err error) {
	defer catch("checkpoint", &err)
	point := cutPoint{base: base{Raft: a.pos.Raft, Term: a.term, Index: a.pos.Index}, total: a.total}
	c.mu.Lock()
	cut := c.made[0]
	for _, p := range c.made {
		if point.total-p.total >= c.retain {
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
			Version: checkpointVersion, Position: a.pos, Base: cut.base, Terms: c.store.termsUpTo(cut.base, a.pos.Raft),
			Members: c.store.voters(), State: stateOf, Machine: c.machine,
		}
		if body == nil {
			header.State = stateNone
		}
		snap := newSnapshot(a.term, latest.GetConfState(), header)
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
	c.made = append(c.made, point)
	for len(c.made) > 1 && c.made[1].base.Raft <= cut.base.Raft {
		c.made = c.made[1:]
	}
	c.busy = false
	return nil
}
