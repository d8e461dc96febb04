package core

import (
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// What is committed raft tells each follower at once, in a message without entries. It is answered, too, so it wakes everybody as often as the batch
// did, on both sides, for what the next batch says anyway. While batches follow one another it is held back until that leaves, and for no longer than
// a batch may wait for more records. To raft it is a message that is late, or was lost before one that says more.

// tidings are the messages without entries that are held back, at most one for each follower.
type tidings struct {
	held  []*raftpb.Message
	until time.Duration // when they leave; of no meaning where there are none
}

// hold holds a message back.
func (t *tidings) hold(m *raftpb.Message, until time.Duration) {
	if len(t.held) == 0 {
		t.until = until
	}
	t.held = append(t.held, m)
}

// overtaken forgets what is held back for a follower: it is about to be sent more.
func (t *tidings) overtaken(by *raftpb.Message) {
	t.held = slices.DeleteFunc(t.held, func(m *raftpb.Message) bool { return m.GetTo() == by.GetTo() })
}

// due is when something is to leave.
func (t *tidings) due() time.Duration {
	if len(t.held) == 0 {
		return math.MaxInt64
	}
	return t.until
}

// forget forgets all.
func (t *tidings) forget() { t.held = emptied(t.held) }

// Tells reports whether this leader is yet to tell others what is committed.
func (c *Core) Tells() bool { return len(c.tidings.held) > 0 }

// tell sends what was held back.
func (c *Core) tell() {
	c.eff.Send = append(c.eff.Send, c.tidings.held...)
	c.tidings.forget()
}
