package core

import (
	"time"

	"go.etcd.io/raft/v3"
)

// Who wants to read what was acknowledged up to now, anywhere, asks the leader how far that is, and waits until so much is applied
// where it reads (Raft, section 6.4). A leader may say it when this holds.
//
// It has moved over an entry of its own term. Then everything that any earlier leader has committed is before its position. And it
// has moved over all that it knew to be committed when it was asked: it may have told others, who may have applied it and have
// been read. A read that comes later must not see less.
//
// Besides, nobody else has led before this moment. Raft's way to know it is a round of heartbeats for each read. Here the stamps
// have made that round beforehand: while the lease lasts nobody else can have been elected, so a leader that holds one answers
// at once, and one that does not waits for the echoes that renew it.

// A Reader is who waits for the answer. It is told once, on the goroutine that owns the core, and must not block.
type Reader interface{ Read(index uint64, err error) }

// Read asks the leader for the last record that can have been acknowledged before. The answer comes as a [ReadDone], exactly once.
type Read struct{ Reader Reader }

func (Read) event() {}

// Mail implements [Mail].
func (Read) Mail() {}

// ReadDone answers a [Read]. The error is [ErrNotLeader]: this member does not lead, or is not sure of it any more.
type ReadDone struct {
	Reader Reader
	Index  uint64
	Err    error
}

// reads are those that a leader has not answered.
type reads struct {
	waiting []Read
	by      time.Duration // when the first of them waits no longer
	term    uint64        // of the last entry that this member has moved over
	commit  uint64        // raft index that was known to be committed when the last of them came
}

// leaseComes is for how many heartbeats a read waits for the lease, and for an entry of the leader's term.
const leaseComes = 2

// read takes a read.
func (c *Core) read(now time.Duration, r Read) {
	if len(c.reads.waiting) == 0 {
		c.reads.by = now + leaseComes*c.cfg.Heartbeat
	}
	c.reads.waiting, c.reads.commit = append(c.reads.waiting, r), c.committed()
}

// answerReads answers those that wait, if it is known how. The lease was just worked out.
func (c *Core) answerReads(now time.Duration) {
	r := &c.reads
	if len(r.waiting) == 0 {
		return
	}
	var err error
	switch {
	case c.state != raft.StateLeader:
		err = ErrNotLeader
	case r.term == c.term && now < c.lease.until:
		if c.pos.Raft < r.commit {
			return
		}
	case now < r.by:
		return
	default:
		err = ErrNotLeader
	}
	c.endReads(err)
}

// committed is the raft index up to which this member knows its log to be committed.
func (c *Core) committed() uint64 { return c.node.BasicStatus().HardState.GetCommit() }

// Moved reports whether this member has moved over all that it knows to be committed.
func (c *Core) Moved() bool { return c.pos.Raft >= c.committed() }

// endReads answers all that wait.
func (c *Core) endReads(err error) {
	for _, read := range c.reads.waiting {
		c.eff.Reads = append(c.eff.Reads, ReadDone{read.Reader, c.pos.Index, err})
	}
	c.reads.waiting = emptied(c.reads.waiting)
}

// A Heard is what a leader says of its log with each heartbeat: the last record that it had moved over, and when that came in.
type Heard struct {
	Index uint64
	At    time.Duration
}

// Told returns what the leader has said last, perhaps this member itself; nothing, if none has.
func (c *Core) Told() Heard { return c.told }
