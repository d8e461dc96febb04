package core

import (
	"time"

	"go.etcd.io/raft/v3"
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
