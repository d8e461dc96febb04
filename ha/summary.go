package ha

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/stats"
	"github.com/baton-ha/baton/log"
)

// This file is what each change of roles has cost, as the appends themselves show it. The member that takes over knows for how long nobody
// acknowledged one, the member whose role has ended which it had to refuse: each says so in an event, and Explain puts them together.

// A Summary is what a change of roles has cost.
type Summary struct {
	// Last is when the last append before the change was acknowledged or, where another member did that, reached this one; First when
	// the first one after it was acknowledged. Zero: not known.
	Last  time.Time `json:"last,omitzero"`
	First time.Time `json:"first,omitzero"`
	// Silence is the time in between: nobody acknowledged anything for so long, whether or not somebody had something to append.
	Silence time.Duration `json:"silence,omitempty"`
	// Refused counts the records, and calls of Append, that the member whose role has ended then refused until it knew of the next
	// Active, Unknown those of which it could not say whether they are in the log.
	Refused uint64 `json:"refused,omitempty"`
	Unknown uint64 `json:"unknown,omitempty"`
}

// RoleStats is how often this member has had the role since Open, and what the changes have cost.
type RoleStats struct {
	Taken   uint64             // epochs in which this member was Active
	Ended   map[string]uint64  // of those that have ended, how many for each cause of [EventEnded]; all causes are there
	Silence stats.Distribution // [Summary.Silence] of each change to this member, in nanoseconds
	Refused uint64             // [Summary.Refused] and
	Unknown uint64             // [Summary.Unknown] of all changes
}

// roleCounts is what RoleStats counts.
type roleCounts struct {
	rejected atomic.Uint64 // calls of Append by who was not Active
	silence  stats.Histogram

	mu sync.Mutex // guards what follows, held for counting only
	RoleStats
}

func (c *roleCounts) count(add func(s *RoleStats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.RoleStats)
}

// stats returns what was counted.
func (c *roleCounts) stats() RoleStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.RoleStats
	s.Ended = make(map[string]uint64, len(endCauses))
	for _, cause := range endCauses {
		s.Ended[cause] = c.Ended[cause]
	}
	s.Silence = c.silence.Snapshot()
	return s
}

// toll is what the chronicle keeps of a change of roles, on the loop.
type toll struct {
	epoch    uint64    // of this member's, whose appends are counted below; 0: none
	before   log.Fates // as they were when its time ended
	rejected uint64    // likewise
	over     bool      // another epoch has started: the next step finds the fate of all of them known

	from string    // who was Active before this member's present epoch
	last time.Time // when the last append before that was acknowledged, as far as it is known here
}

// tollEnded begins to count what the end of this member's time costs.
func (n *Node) tollEnded(epoch uint64) {
	t := &n.story.toll
	t.epoch, t.over = epoch, false
	t.before, t.rejected = n.log.Fates(), n.roles.rejected.Load()
}

// tollEpoch takes note of an epoch that has started, and of the holder of the one before.
func (n *Node) tollEpoch(now time.Duration, e, before log.Epoch) {
	t := &n.story.toll
	if t.over = t.epoch != 0; t.over {
		n.log.Post(wake{})
	}
	if e.Holder != n.cfg.Name {
		return
	}
	t.from, t.last = before.Holder, n.log.Fates().Last
	if at := n.role.view.Appended; at != 0 && before.Holder != "" {
		if came := time.Now().Add(at - now).Round(0); came.After(t.last) {
			t.last = came
		}
	}
}

// toll says what has become of appends.
func (s Summary) toll() string {
	switch {
	case s.Refused == 0 && s.Unknown == 0:
		return "no append was refused"
	case s.Unknown == 0:
		return fmt.Sprintf("appends refused: %d", s.Refused)
	case s.Refused == 0:
		return fmt.Sprintf("appends of unknown fate: %d", s.Unknown)
	}
	return fmt.Sprintf("appends refused: %d, of unknown fate: %d", s.Refused, s.Unknown)
}

// tollSettled records what has become of the appends of a time that has ended. unknown are those that nobody will answer any more.
func (n *Node) tollSettled(unknown uint64) {
	t := &n.story.toll
	f := n.log.Fates()
	s := Summary{Last: f.Last, Refused: f.Refused - t.before.Refused + n.roles.rejected.Load() - t.rejected, Unknown: f.Unknown - t.before.Unknown + unknown}
	n.roles.count(func(r *RoleStats) { r.Refused, r.Unknown = r.Refused+s.Refused, r.Unknown+s.Unknown })
	n.event(Event{Kind: EventSettled, Epoch: t.epoch, Summary: &s, Text: fmt.Sprintf("of epoch %d: %s", t.epoch, s.toll())})
	t.epoch, t.over = 0, false
}

// tollServed records that this member, being Active, has acknowledged its first append.
func (n *Node) tollServed(first log.Acknowledged) {
	t := &n.story.toll
	s := Summary{Last: t.last, First: first.At.Round(0)}
	e := Event{Kind: EventServing, Epoch: first.Epoch, Peer: t.from, Summary: &s, Text: fmt.Sprintf("the first append of epoch %d is acknowledged", first.Epoch)}
	if t.from != "" && !s.Last.IsZero() {
		s.Silence = max(0, s.First.Sub(s.Last))
		n.roles.silence.Observe(int64(s.Silence))
		e.Text += fmt.Sprintf(": nobody acknowledged one for %v, since %s did", s.Silence.Round(time.Microsecond), t.from)
	}
	n.event(e)
}
