package core

import (
	"math"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// A member that is sent a snapshot goes on with the log behind that, and while the snapshot is on its way and is being
// restored, the leader's log grows and is cut. If it were cut behind the snapshot, the member would need another one, and
// so on for ever where writes come faster than snapshots go. So a leader keeps what those who catch up will ask for. That
// has bounds: they are alive, they get on, and the log that is kept for them costs less than the snapshot.

// snapshots is what a core knows of those that are on their way.
type snapshots struct {
	installing bool   // a leader's checkpoint is being written or restored here
	pinned     uint64 // as a leader: the log behind this raft index is needed
}

// NothingPinned is the pin of a log of which nobody needs anything.
const NothingPinned = math.MaxUint64

// pinLog takes note of what the slowest of those needs who catch up.
func (c *Core) pinLog(now time.Duration) {
	first, _ := c.source.FirstIndex()
	need := uint64(NothingPinned)
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		has := p.Match
		switch p.State {
		case tracker.StateSnapshot:
			has = p.PendingSnapshot
		case tracker.StateProbe: // it may be restoring what was sent
			has = max(has, p.Next-1)
		}
		alive := c.lease.alive(id, now, c.cfg.ElectionTimeout)
		if id != c.cfg.ID && alive && has >= first-1 && !c.progress.peers[id].told {
			need = min(need, has)
		}
	})
	c.snapshots.pinned = need
}

// snapshotSent tells raft how sending a snapshot ended, if it waits for that one. Of one that was superseded,
// or that was sent in an earlier term, raft does not want to hear: it would take its failure for that of the
// one that is on its way now, send yet another, and so on.
func (c *Core) snapshotSent(ev SnapshotSent) {
	to, status := ev.Message.GetTo(), raft.SnapshotFailure
	if ev.OK {
		status = raft.SnapshotFinish
	}
	waits := false
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id == to && p.State == tracker.StateSnapshot && p.PendingSnapshot == ev.Message.GetSnapshot().GetMetadata().GetIndex() &&
			ev.Message.GetTerm() == c.term && c.state == raft.StateLeader {
			waits = true
		}
	})
	if waits {
		c.node.ReportSnapshot(to, status)
	}
}
