package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// These are scenarios in which members need the snapshots of others.

// inNeedOfSnapshots returns a cluster with an active whose log is so short that a member that was away needs a snapshot.
func inNeedOfSnapshots(seed uint64) (*simCluster, *simMember) {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery, cfg.checkpoint = true, 0, 512
	c := newSim(cfg)
	c.put(3)
	a := c.active()
	if a == nil {
		c.check.fail("no active")
	}
	return c, a
}

// snapshotAndRestart lets a member come back that needs a snapshot, restarts it as soon as it has that one,
// and then makes it serve another that lags.
func snapshotAndRestart(seed uint64) *simCluster {
	c, a := inNeedOfSnapshots(seed)
	if a == nil {
		return c
	}
	late, other := c.members[(a.i+1)%3], c.members[(a.i+2)%3]
	late.crash()
	c.put(60)
	late.start(false)
	if c.await("snapshot", func() bool { return c.check.snapshots > 0 }) {
		late.crash()
		late.start(false)
		c.put(1)
		other.crash()
		c.put(5)
		a.crash()
		other.start(false)
		a.start(false)
	}
	c.finishAfterTwo()
	return c
}

// finishAfterTwo heals and waits for two more records.
func (c *simCluster) finishAfterTwo() {
	c.heal()
	c.put(2)
	c.check.end()
}

// TestG6_SnapshotAndRestart: a member that has got a snapshot and restarts knows where its log begins.
func TestG6_SnapshotAndRestart(t *testing.T) { seeds(t, snapshotAndRestart) }

// snapshotOnSnapshot lets the leader send one snapshot after the other to a member whose state machine is slow to
// restore, and whose answers get lost.
func snapshotOnSnapshot(seed uint64) *simCluster {
	c, a := inNeedOfSnapshots(seed)
	if a == nil {
		return c
	}
	late := c.members[(a.i+1)%3]
	late.crash()
	c.put(60)
	c.lose = func(from, _ *simMember, msg *raftpb.Message, _ int) bool {
		return from == late && msg.GetType() == raftpb.MsgAppResp
	}
	late.applyEvery = 3 * time.Second
	late.start(false)
	for range 3 {
		c.put(30)
		c.w.Run(c.w.Now()+200*time.Millisecond, func() bool { return false })
	}
	c.lose, late.applyEvery = nil, 0
	c.finishAfterTwo()
	return c
}

// TestG6_SnapshotOnSnapshot: a member that is sent a snapshot while it restores another comes back all the same.
func TestG6_SnapshotOnSnapshot(t *testing.T) { seeds(t, snapshotOnSnapshot) }

// snapshotAcrossLeaderships lets the leader lose and regain leadership while a snapshot is on its way to a member, which takes
// longer than a round of heartbeats.
func snapshotAcrossLeaderships(seed uint64) *simCluster {
	c, a := inNeedOfSnapshots(seed)
	if a == nil {
		return c
	}
	c.cfg.transfer = 2 * time.Second
	late := c.members[(a.i+1)%3]
	late.crash()
	c.put(60)
	late.start(false)
	if !c.await("snapshot on its way", func() bool { return a.sending[late.i] != nil }) {
		return c
	}
	for _, active := range []bool{false, true} {
		a.post(asked(active))
		if !c.await("hand-over", func() bool { return c.active() != nil && (c.active() == a) == active }) {
			return c
		}
		c.put(5)
	}
	if a.sending[late.i] != nil && c.await("snapshot", func() bool { return late.sm.last >= a.sm.last }) {
		c.finishAfterTwo()
	}
	return c
}

// TestG6_SnapshotAcrossLeaderships: the snapshot arrives.
func TestG6_SnapshotAcrossLeaderships(t *testing.T) { seeds(t, snapshotAcrossLeaderships) }

// snapshotUnderLoad lets a member that needs a snapshot come back while so much is appended that more log than is retained
// grows, and is cut, while the snapshot is on its way.
func snapshotUnderLoad(seed uint64) *simCluster {
	c, a := inNeedOfSnapshots(seed)
	if a == nil {
		return c
	}
	c.cfg.transfer = 600 * time.Millisecond
	late := c.members[(a.i+1)%3]
	late.crash()
	c.put(60)
	c.cfg.appendEvery = 30 * time.Millisecond
	a.client()
	late.start(false)
	if c.await("catching up", func() bool { return late.sm.last > 60 && late.sm.last+10 > a.sm.last }) {
		c.cfg.appendEvery = 0
		if n := c.check.snapshots; n > 2 {
			c.check.fail("%s needed %d snapshots", late.name, n)
		}
		c.finishAfterTwo()
	}
	return c
}

// TestG6_SnapshotUnderLoad: a snapshot or two are enough.
func TestG6_SnapshotUnderLoad(t *testing.T) { seeds(t, snapshotUnderLoad) }
