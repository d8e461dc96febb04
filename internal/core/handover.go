package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// transfer gives up the lease and lets raft hand leadership on. Raft sends TimeoutNow when the other
// has caught up; if that does not happen within an election timeout, it gives up.
func (c *Core) transfer(now time.Duration, to uint64) {
	if c.state != raft.StateLeader || to == c.cfg.ID {
		return
	}
	c.lease.transfer(now)
	c.promises.forgive()
	c.setLease(0)
	c.node.TransferLeader(to)
}

// keepLead calls a transfer off. To hand leadership to oneself is how raft is told to give the other one up. A TimeoutNow that
// is on its way releases nobody from what is promised from now on.
func (c *Core) keepLead(now time.Duration) {
	if c.state != raft.StateLeader || c.lease.transferring == 0 {
		return
	}
	c.node.TransferLeader(c.cfg.ID)
	if c.transferee() == raft.None {
		c.lease.transferring, c.lease.beatAt = 0, now
	}
}

// transferee is to whom raft is about to hand leadership, [raft.None] if to nobody.
func (c *Core) transferee() uint64 { return c.node.BasicStatus().LeadTransferee }

// refuse says that this member cannot take over what the leader of its term would hand to it, so that nobody waits for that. It is
// what a heartbeat with which nothing was promised would be answered with: a leader that knows of no refusals learns nothing from it.
func (c *Core) refuse(now time.Duration, m *raftpb.Message) {
	c.send(now, &raftpb.Message{
		Type: raftpb.MsgHeartbeatResp.Enum(), To: new(m.GetFrom()), From: &c.cfg.ID, Term: new(c.term), Context: beat(releasedBy(m), false, true),
	})
}

// unreachable takes note that messages to another member were lost. raft sends them again.
func (c *Core) unreachable(ev Unreachable) {
	c.node.ReportUnreachable(ev.ID)
	if c.state == raft.StateLeader && !ev.Dropped {
		c.change(PeerLost{ev.ID})
	}
}

// giveWay steps down. Raft does so when it finds, twice in a row, that no majority has answered since it looked
// last; so it is told that much time has passed, and no more than that: a follower
// would campaign.
func (c *Core) giveWay(now time.Duration) {
	wait := c.lease.longest(c.members.voters)
	c.progress.gaveWay(now)
	c.lease.giveUp()
	c.promises.forgive()
	c.setLease(0)
	for ticks := 2 * (c.electionTicks() + 1); ticks > 0 && c.node.BasicStatus().RaftState == raft.StateLeader; ticks-- {
		c.node.Tick()
	}
	c.look(now)
	c.voter.standAside(now, wait)
}

// aliveWithin is how many heartbeats old the last echo of a follower may be that counts as alive.
const aliveWithin = 4
