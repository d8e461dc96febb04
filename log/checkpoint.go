package log

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// A Checkpointer writes a checkpoint whenever enough has been applied since the last, and cuts the log
// behind an older one. One checkpoint is written at a time. One that fails loses nothing: the log is kept
// instead, up to a bound, and it is tried again.
type Checkpointer struct {
	store   *Store
	every   int64                // bytes of entries between two checkpoints, at least
	bound   int64                // bytes of entries that are kept without a checkpoint while it fails
	retain  int64                // bytes of entries kept behind a checkpoint, at least
	keepFor time.Duration        // how long log is kept behind a checkpoint, at least, where there is room
	clock   func() time.Duration // by which that is told; nil: nothing is kept for its age
	machine string               // the type of the state machine

	CursorBytes int64 // kept besides for readers that have a cursor, at most. Set before the first apply

	Sessions func() []byte // tells the table of sessions after the last apply; nil: there is none. Set before the first apply

	since    int64      // bytes applied since the last one was begun; owned by whoever calls Due, and with Want guarded by mu
	adopting sync.Mutex // held by Adopt

	mu     sync.Mutex           // guards everything below
	busy   bool                 // one is being written, or is to be tried again
	retry  bool                 // one that has failed is to be tried again now
	asked  bool                 // one is wanted although none is due
	ended  chan struct{}        // closed and replaced when one was written or has failed
	holds  map[*uint64]struct{} // raft indexes behind which the log is being read
	made   []cutPoint           // candidates for the log's new base, oldest first
	scarce bool                 // there is little room on the disk: log is not kept for its age
	size   int64                // bytes of the last state that was written
	last   Place                // after the last apply
	saved  int64                // last.total at the last one that was written
	failed error                // why the last one was not written
	pause  time.Duration
	wants  bool // of an arbiter: a checkpoint of the leader's
}

const (
	// boundCheckpoints is how many times CheckpointBytes of log are kept while no checkpoint can be written, and
	// minBound how many bytes at least.
	boundCheckpoints = 16
	minBound         = 256 << 20
	// pinCheckpoints is how many times as much log as lies between two checkpoints is kept behind the rest for members that catch up.
	pinCheckpoints = 4
	// The pauses between two attempts grow from the one to the other.
	minCheckpointPause = time.Second
	maxCheckpointPause = time.Minute
)

// A Place is where in the log a checkpoint is made.
type Place struct {
	pos   core.Position
	term  uint64 // of the raft entry at pos
	total int64  // bytes applied up to here since the start

	sessions []byte // their table; only where a checkpoint is made
}

// A cutPoint is a checkpoint that the log may be cut behind.
type cutPoint struct {
	base  core.Base
	total int64
	at    time.Duration // when the log had come there
}

// NewCheckpointer returns the checkpointer of a log.
func NewCheckpointer(store *Store, every, retain int64) *Checkpointer {
	return &Checkpointer{store: store, every: every, retain: retain, bound: max(boundCheckpoints*every, minBound),
		made: []cutPoint{{base: store.oldest()}}, last: Place{pos: store.pos, term: store.latest().GetMetadata().GetTerm()},
		ended: make(chan struct{}), holds: make(map[*uint64]struct{})}
}

// place returns the place after the last apply.
func (c *Checkpointer) place() Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// ask asks for a checkpoint of all up to a raft index. It returns nil if there is one, and else a channel that is closed when one
// was written or has failed; or, to who asks again after that, why it has failed.
func (c *Checkpointer) ask(raftIndex uint64, again bool) (ended <-chan struct{}, failed error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.store.latest().GetMetadata().GetIndex() >= raftIndex:
		return nil, nil
	case again && c.failed != nil:
		return nil, c.failed
	}
	c.asked = true
	return c.ended, nil
}

// wanted returns the place after the last apply if a checkpoint is to be made there: one that has failed is to be tried again, or
// somebody has asked for one.
func (c *Checkpointer) wanted() (Place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy && !c.retry || !c.busy && !c.asked {
		return Place{}, false
	}
	c.busy, c.retry, c.asked, c.since = true, false, false, 0
	return c.hereLocked(), true
}

// hereLocked is the place after the last apply, with what belongs to a checkpoint there.
func (c *Checkpointer) hereLocked() Place {
	at := c.last
	if c.Sessions != nil {
		at.sessions = c.Sessions()
	}
	return at
}

// hold keeps the log behind a raft index for somebody who reads it, as it is kept for members that catch up, until it is released.
func (c *Checkpointer) hold(raftIndex uint64) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := &raftIndex
	c.holds[key] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.holds, key)
	}
}

// mayCutLocked reports whether the log may be cut behind a raft index for all who need it.
func (c *Checkpointer) mayCutLocked(raftIndex uint64) bool {
	for held := range c.holds {
		if raftIndex > *held {
			return false
		}
	}
	return c.store.mayCut(raftIndex)
}

// Due counts an apply and reports whether a checkpoint is to be made after it, and where that is. If so the caller must
// capture the state machine before the next apply, and then call Save, from any goroutine. note, if not nil, changes what
// Sessions tells to what it is after the apply.
func (c *Checkpointer) Due(a *core.Apply, note func()) (Place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if note != nil {
		note()
	}
	c.since += int64(a.Bytes)
	c.last = Place{pos: a.Position, term: a.Term, total: c.last.total + int64(a.Bytes)}
	if a.Snapshot != nil {
		c.saved = c.last.total
	}
	if c.since < c.intervalLocked() || c.busy {
		return Place{}, false
	}
	c.busy, c.since = true, 0
	return c.hereLocked(), true
}

// intervalLocked is how many bytes are applied between two checkpoints, at least: as many as the state is large, so that what is written for checkpoints is no more than
// what is written for the log.
func (c *Checkpointer) intervalLocked() int64 { return max(c.every, c.size) }

// sized takes note of how large the state is that was restored.
func (c *Checkpointer) sized(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size = max(size, 0)
}

// fail takes note of why a checkpoint was not written, and returns when to try again.
func (c *Checkpointer) fail(err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
	c.tellLocked()
	c.pause = min(max(2*c.pause, minCheckpointPause), maxCheckpointPause)
	return c.pause
}

// tellLocked tells who has asked for a checkpoint that one has come to its end.
func (c *Checkpointer) tellLocked() {
	close(c.ended)
	c.ended = make(chan struct{})
}

// failing reports whether the last one was not written.
func (c *Checkpointer) failing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil
}

// again lets one that has failed be tried again.
func (c *Checkpointer) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retry = true
}

// full returns an [ErrNoRoom] when so much log is kept for want of a checkpoint that there must not be more. One that
// is being written may take its time over a large state.
func (c *Checkpointer) full() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	why, bound := c.failed, c.bound+c.size
	if why == nil {
		why, bound = errNoEnd, bound+2*c.size
	}
	if kept := c.last.total - c.saved; c.busy && kept > bound {
		return &NoRoomError{RoomCheckpoint, fmt.Errorf("%d bytes of log are kept for want of a checkpoint: %w", kept, why)}
	}
	return nil
}

// errNoEnd is why there is no checkpoint although none has failed.
var errNoEnd = errors.New("the one that is being written does not come to its end")

// Save writes the checkpoint at a place, with the state machine's capture unless that is nil because there is
// none, and cuts the log.
func (c *Checkpointer) Save(a Place, body io.WriterTo) (err error) {
	defer core.Catch("checkpoint", &err)
	var sized *counted
	point := a.cutPoint()
	cut := c.cutBehind(point.total)
	latest := c.store.latest().GetMetadata()
	if latest.GetIndex() < a.pos.Raft { // else a leader's snapshot has overtaken this one
		header := core.Checkpoint{
			Position: a.pos.Since(cut.base.Raft), Base: cut.base, Terms: c.store.termsUpTo(cut.base, a.pos.Raft),
			State: core.StateOf, Machine: c.machine, Sessions: a.sessions,
		}
		if body == nil {
			header.State = core.StateNone
		}
		snap := core.NewSnapshot(a.term, header)
		if body != nil {
			sized = &counted{WriterTo: body}
			body = sized
		}
		if err := c.store.disk.SaveSnapshot(snap, body); err != nil {
			return err
		}
		c.store.checkpointed(snap, a.pos.Index, cut.base)
		if err := c.store.disk.Compact(cut.base.Raft); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if sized != nil {
		c.size = sized.n
	}
	c.candidateLocked(point)
	c.forgetBefore(cut)
	c.busy, c.saved, c.failed, c.pause = false, a.total, nil, 0
	c.tellLocked()
	return nil
}

// cutPoint is the place as one that the log may be cut behind.
func (a Place) cutPoint() cutPoint {
	return cutPoint{base: core.Base{Raft: a.pos.Raft, Term: a.term, Index: a.pos.Index}, total: a.total}
}

// cutBehind returns where the log is to begin once there is a checkpoint after so many bytes.
func (c *Checkpointer) cutBehind(total int64) cutPoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := c.made[0]
	for _, p := range c.made {
		behind := total - p.total
		if behind >= c.retain && c.oldLocked(p) && !c.waitedForLocked(p, behind) && (c.scarce || c.mayCutLocked(p.base.Raft) || behind > c.retain+pinCheckpoints*c.intervalLocked()) {
			cut = p
		}
	}
	if b := c.store.oldest(); b.Raft > cut.base.Raft {
		cut.base = b // a leader's snapshot has replaced the log
	}
	return cut
}

// oldLocked reports whether all that is cut off at a candidate is older than it must be kept. After a start it is told from then on.
func (c *Checkpointer) oldLocked(p cutPoint) bool {
	return c.clock == nil || c.scarce || p.at == 0 || c.clock()-p.at >= c.keepFor
}

// keep keeps log for a time, by a clock, where there is room on the disk. It is called before the first apply.
func (c *Checkpointer) keep(d time.Duration, clock func() time.Duration) {
	if d > 0 {
		c.keepFor, c.clock = d, clock
	}
}

// short takes note of whether there is little room on the disk.
func (c *Checkpointer) short(scarce bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scarce = scarce
}

// candidateLocked adds a candidate. Of very many that are kept for their age every second one will do.
func (c *Checkpointer) candidateLocked(p cutPoint) {
	if c.clock != nil {
		p.at = c.clock()
	}
	if c.made = append(c.made, p); len(c.made) < maxCandidates {
		return
	}
	for i := range maxCandidates / 2 {
		c.made[i] = c.made[2*i]
	}
	c.made = c.made[:maxCandidates/2]
}

// maxCandidates bounds the candidates. Even.
const maxCandidates = 2048

// forgetBefore forgets the candidates that the log does not reach back to. c.mu is held.
func (c *Checkpointer) forgetBefore(cut cutPoint) {
	for len(c.made) > 1 && c.made[1].base.Raft <= cut.base.Raft {
		c.made = c.made[1:]
	}
}

// counted counts the bytes of a body.
type counted struct {
	io.WriterTo
	n int64
}

// WriteTo implements io.WriterTo.
func (c *counted) WriteTo(w io.Writer) (int64, error) {
	n, err := c.WriterTo.WriteTo(w)
	c.n = max(n, 0)
	return n, err
}
