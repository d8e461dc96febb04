package log

import (
	"sort"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// This file is about arbiters, which vote and keep the log without understanding it. An arbiter cannot make checkpoints. To cut its
// log without one would make it a voter that has acknowledged what it can give to nobody: with it and one other member an
// append is durable, and when that one is lost, and the third one lags, it is the arbiter that has to bring that one up. So it asks
// the leader for the leader's checkpoint, a file that it need not understand, and keeps that and the log behind it, as
// every voter does.
//
// What it takes is of what it has in its log and knows to be committed, so raft has no part in it: like a checkpoint of its own it
// changes nothing but where its log may begin. It gets a header of this member's, which says so, and whose history of the epochs
// reaches back as far.

// Want counts an apply of an arbiter. It reports whether what the arbiter wants has changed by it: a checkpoint of the leader's from a raft
// index on, or with 0 none any more. It wants one when there is as much log behind the last one as between two checkpoints of others, and as much as the last one had
// itself, so that checkpoints take no more from the network and the disk than the log does.
func (c *Checkpointer) Want(a *core.Apply) (from uint64, due bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since += int64(a.Bytes)
	c.last = Place{pos: a.Position, term: a.Term, total: c.last.total + int64(a.Bytes)}
	if a.Snapshot != nil { // it has replaced the log
		c.wants, c.since, c.saved, c.made = false, 0, c.last.total, []cutPoint{c.last.cutPoint()}
		return 0, true
	}
	if c.last.total-c.made[len(c.made)-1].total > max(c.retain, c.every)/cutPoints {
		c.made = append(c.made, c.last.cutPoint())
	}
	if c.wants || c.since < max(c.every, c.size) {
		return 0, false
	}
	c.wants = true
	return c.store.latest().GetMetadata().GetIndex() + 1, true
}

// cutPoints is in how many places, evenly, what is kept of the log behind a checkpoint may be cut by an arbiter, whose
// checkpoints are at places that it cannot know before.
const cutPoints = 8

// Adopt makes a leader's checkpoint, which is staged, an arbiter's own, and cuts the log. It returns what the arbiter wants then, as Want
// does. A checkpoint of more than is known to be committed here is left to raft, and one that is no newer than what the arbiter
// has to nobody.
func (c *Checkpointer) Adopt(theirs *raftpb.Snapshot, size int64) (from uint64, err error) {
	c.adopting.Lock()
	defer c.adopting.Unlock()
	cp, err := core.ParseCheckpoint(theirs)
	if err != nil {
		return 0, err
	}
	if at := cp.Position.Raft; at <= c.store.position().Raft && at > c.store.latest().GetMetadata().GetIndex() {
		if err := c.adopt(theirs, cp, max(size, 0)); err != nil {
			return 0, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wants {
		return 0, nil
	}
	return c.store.latest().GetMetadata().GetIndex() + 1, nil
}

// adopt is Adopt of a checkpoint that can be.
func (c *Checkpointer) adopt(theirs *raftpb.Snapshot, cp core.Checkpoint, size int64) error {
	at, epochs := cp.Position.Raft, c.store.position().Epochs
	total := c.totalAt(at)
	cut := c.cutBehind(total)
	cp.Version, cp.Base, cp.Terms = 0, cut.base, c.store.termsUpTo(cut.base, at)
	cp.Position.Epochs = epochs[:sort.Search(len(epochs), func(i int) bool { return epochs[i].Raft > at })]
	cp.Position = cp.Position.Since(cut.base.Raft)
	own := core.NewSnapshot(theirs.GetMetadata().GetTerm(), cp)
	if err := c.store.disk.AdoptSnapshot(own); err != nil {
		return err
	}
	c.store.checkpointed(own, cp.Position.Index, cut.base)
	if err := c.store.disk.Compact(cut.base.Raft); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetBefore(cut)
	c.wants, c.size, c.saved, c.since = false, size, total, c.last.total-total
	return nil
}

// totalAt returns how many bytes had been applied at a raft index, or somewhat less.
func (c *Checkpointer) totalAt(raftIndex uint64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := sort.Search(len(c.made), func(i int) bool { return c.made[i].base.Raft > raftIndex })
	return c.made[max(i-1, 0)].total
}

// adopt takes a checkpoint that was received, unless that is raft's to install, which is told of it in any case.
func (l *Log) adopt(snap *raftpb.Snapshot, size int64) error {
	from, err := l.check.Adopt(snap, size)
	if err == nil {
		l.Post(core.Want{From: from})
	}
	return err
}

// takes reports why a member cannot go on from what follows a header.
func (l *Log) takes(cp *core.Checkpoint, size int64) error {
	if l.cfg.Arbiter {
		return nil
	}
	return cp.Fits(l.cfg.StateMachine != nil, size)
}
