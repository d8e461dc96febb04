package core

import (
	"math"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A member that is sent a snapshot goes on with the log behind that, and while the snapshot is on its way and is being
// restored, the leader's log grows and is cut. If it were cut behind the snapshot, the member would need another one, and
// so on for ever where writes come faster than snapshots go. So a leader keeps what those who catch up will ask for. That
// has bounds: they are alive, they get on, and the log that is kept for them costs less than the snapshot.

// snapshots is what a core knows of those that are on their way.
type snapshots struct {
	installing bool   // a leader's checkpoint is being written or restored here
	wants      uint64 // as an arbiter: a checkpoint of the leader's at this raft index or a later one; 0: none
	pinned     uint64 // as a leader: the log behind this raft index is needed

	provided map[uint64]*raftpb.Message // as a leader: on their way to arbiters that have asked
}

// NothingPinned is the pin of a log of which nobody needs anything.
const NothingPinned = math.MaxUint64

// pinLog takes note of what the slowest of those needs who catch up.
func (c *Core) pinLog(now time.Duration) {
	first, _ := c.source.FirstIndex()
	need, sending := uint64(NothingPinned), len(c.snapshots.provided) > 0
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		has := p.Match
		switch p.State {
		case tracker.StateSnapshot:
			has, sending = p.PendingSnapshot, true
		case tracker.StateProbe: // it may be restoring what was sent
			has = max(has, p.Next-1)
		}
		alive := c.lease.alive(id, now, c.cfg.ElectionTimeout)
		if id != c.cfg.ID && alive && has >= first-1 && !c.progress.peers[id].told {
			need = min(need, has)
		}
	})
	c.snapshots.pinned = need
	c.yielding.sent(now, sending, c.pace.committedBytes)
}

// stepDown forgets what a leader knows.
func (s *snapshots) stepDown() { s.pinned, s.provided = NothingPinned, nil }

// An arbiter cannot make checkpoints, for it does not understand what it keeps, and so it could never cut its log. So when
// that has grown it asks the leader for a checkpoint of the leader's, with each echo until it has one; where the checkpoint is
// of what the arbiter has in its log and knows to be committed, raft has no part in it.

// provide sends this leader's checkpoint to an arbiter that wants one at a raft index or later.
func (c *Core) provide(now time.Duration, to, from uint64) {
	if from == 0 || c.snapshots.provided[to] != nil || !c.members.arbiter(to) {
		return
	}
	restoring := false
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		restoring = restoring || id == to && p.State == tracker.StateSnapshot
	})
	snap, err := c.source.Snapshot()
	if restoring || err != nil || snap.GetMetadata().GetIndex() < from {
		return
	}
	if snap, err = ForOthers(snap); err != nil {
		return
	}
	if c.snapshots.provided == nil {
		c.snapshots.provided = make(map[uint64]*raftpb.Message)
	}
	m := &raftpb.Message{Type: raftpb.MsgSnap.Enum(), To: &to, From: &c.cfg.ID, Term: new(c.term), Snapshot: snap}
	c.snapshots.provided[to] = m
	c.send(now, m)
}

// snapshotSent tells raft how sending a snapshot ended, if it waits for that one. Of one that was superseded,
// or that was sent in an earlier term, raft does not want to hear: it would take its failure for that of the
// one that is on its way now, send yet another, and so on.
func (c *Core) snapshotSent(ev SnapshotSent) {
	if c.snapshots.provided[ev.Message.GetTo()] == ev.Message {
		delete(c.snapshots.provided, ev.Message.GetTo())
	}
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
