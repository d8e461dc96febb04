package ha

import (
	"log/slog"
	"strings"
	"sync"
	"time"
)

// This file says in the log how this member's role begins and ends. One that ends badly as soon as it has begun, again and again, would be two
// lines or more each time. So after a bad end the lines of the next beginning wait for a moment, which grows; a bad end that comes before
// they are out, and was said before, is counted, and said after growing pauses (repeat.go). What ends in order is always said.

// comings is what was said of this member's roles. The zero value is ready.
type comings struct {
	mu    sync.Mutex // guards what follows, and the order of the lines
	open  bool       // a role, or OnFence before it, has begun and has not ended
	said  bool       // the lines of the last beginning are out
	held  []Event    // or these are not
	count uint64     // how many have begun
	began time.Time
	bad   int // how many in a row have ended badly, soon after they had begun
}

// How long the lines of a beginning wait after a bad end.
const (
	minHold = time.Second
	maxHold = time.Minute
)

func (c *comings) hold() time.Duration {
	if c.bad == 0 {
		return 0
	}
	return min(minHold<<min(c.bad-1, 10), maxHold)
}

// beginLocked notes a beginning.
func (c *comings) beginLocked(now time.Time) {
	c.open, c.began, c.said, c.held = true, now, c.bad == 0, nil
	c.count++
}

// endLocked notes an end.
func (c *comings) endLocked(now time.Time, badly bool) {
	switch {
	case !badly:
		c.bad = 0
	case now.Sub(c.began) > 10*max(c.hold(), minHold):
		c.bad = 1
	default:
		c.bad++
	}
	c.open, c.held = false, nil
}

// sayComing says an event of this member's role, or lets it wait, or counts it.
func (n *Node) sayComing(now time.Time, e Event, err error) {
	c := &n.comings
	c.mu.Lock()
	defer c.mu.Unlock()
	if begins := e.Kind == EventFencing || e.Kind == EventActive; begins && !c.open {
		c.beginLocked(now)
		if count := c.count; !c.said {
			time.AfterFunc(c.hold(), func() { n.sayHeld(count) })
		}
	}
	level, _ := n.lineOf(e)
	what := n.meaningOf(e)
	badly := level >= slog.LevelWarn
	switch {
	case badly && what.ofRole && c.said:
		n.sayEvent(e, err, n.repeats.noteSaid(now, repeatOf(e), textOf(e)))
	case badly && what.ofRole:
		n.sayFailure(now, e, err, n.sayHeldLocked)
	case badly:
		n.sayFailure(now, e, err, func() {})
	case c.open && !c.said && !what.ends:
		c.held = append(c.held, e)
	default:
		n.sayHeldLocked()
		n.sayEvent(e, err, 1)
	}
	if what.ends && c.open {
		c.endLocked(now, badly)
	}
}

// A meaning is what an event is for the log.
type meaning struct {
	ofRole bool // it belongs to the last role that has begun
	ends   bool // and ends it
}

func (n *Node) meaningOf(e Event) meaning {
	switch {
	case e.Kind == EventEnded:
		return meaning{ofRole: true, ends: true}
	case e.Kind == EventFailed && strings.HasPrefix(e.Text, "OnActive:"):
		return meaning{ofRole: true, ends: true}
	case e.Kind == EventFailed && strings.HasPrefix(e.Text, "OnFence:"):
		return meaning{ofRole: true, ends: n.cfg.FencePolicy == FenceRequired}
	case e.Kind == EventFailed: // OnStandby, or a misuse
		return meaning{}
	}
	return meaning{ofRole: true}
}

// repeatOf is the kind of failure that an event is.
func repeatOf(e Event) string {
	if e.Kind == EventFailed {
		callback, _, _ := strings.Cut(e.Text, ":")
		return string(e.Kind) + " " + callback
	}
	return string(e.Kind) + " " + e.Cause
}

// textOf is what makes a failure another one of its kind: what a callback has said. How a role ended otherwise is told by its cause.
func textOf(e Event) string {
	if e.Kind == EventFailed {
		return e.Text
	}
	return ""
}

// sayFailure says an event that is a failure, after what first says, or counts it.
func (n *Node) sayFailure(now time.Time, e Event, err error, first func()) {
	times, yes := n.repeats.note(now, repeatOf(e), textOf(e), func(times int) {
		if !n.hasEnded() {
			n.sayEvent(e, err, times)
		}
	})
	if yes {
		first()
		n.sayEvent(e, err, times)
	}
}

// sayHeld says the lines of a beginning that is still the last, and has not ended.
func (n *Node) sayHeld(count uint64) {
	c := &n.comings
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open && c.count == count {
		n.sayHeldLocked()
	}
}

func (n *Node) sayHeldLocked() {
	c := &n.comings
	if !c.open {
		return
	}
	for _, e := range c.held {
		n.sayEvent(e, nil, 1)
	}
	c.held, c.said = nil, true
}
