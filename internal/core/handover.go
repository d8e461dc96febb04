package core

import (
	"errors"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
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

// relieve lets the role machine hand over to a member that is well, if this one does not get to run.
func (c *Core) relieve(now time.Duration) {
	if now >= c.lease.until || !c.starving.mayHandOver(now) {
		return
	}
	if to, err := c.successor(now, 0, true); err == nil {
		c.starving.handsOver(now)
		c.change(TransferAsked{By: to})
	}
}

// giveWay steps down. Raft does so when it finds, twice in a row, that no majority has answered since it looked
// last; so it is told that much time has passed.
func (c *Core) giveWay(now time.Duration) {
	wait := c.lease.longest()
	c.progress.gaveWay(now)
	c.lease.giveUp()
	c.promises.forgive()
	c.setLease(0)
	for range 2 * (c.electionTicks() + 1) {
		c.node.Tick()
	}
	c.look(now)
	c.voter.standAside(now, wait)
}

// ErrNoSuccessor is returned by Successor, and matched by what wraps it, when nobody could take over.
var ErrNoSuccessor = errors.New("baton: no other member is alive and caught up")

// aliveWithin is how many heartbeats old the last echo of a follower may be that counts as alive.
const aliveWithin = 4

// maxHandoverLag is how many raft entries a successor may be behind: few, since nothing can be
// appended while it catches up.
const maxHandoverLag = 1024

// Successor picks the voter to which leadership could be handed now: the one wanted if it is alive and
// caught up, or if want is 0 the best of those. It changes nothing.
func (c *Core) Successor(now time.Duration, want uint64) (uint64, error) {
	if id, err := c.successor(now, want, true); err == nil {
		return id, nil
	}
	return c.successor(now, want, false)
}

// successor is Successor, of all that could take over or of those that are well.
func (c *Core) successor(now time.Duration, want uint64, well bool) (uint64, error) {
	var best, match, last uint64
	c.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		if id == c.cfg.ID {
			last = p.Match
		}
	})
	c.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		e := c.lease.echoes[id]
		alive := e.stamp > 0 && c.lease.alive(id, now, aliveWithin*c.cfg.Heartbeat) && !e.guarded && !(well && e.starved)
		if id == c.cfg.ID || typ != raft.ProgressTypePeer || want != 0 && id != want || !alive || p.Match+maxHandoverLag < last {
			return
		}
		if p.Match > match || p.Match == match && id < best || best == 0 {
			best, match = id, p.Match
		}
	})
	if best == 0 {
		return 0, ErrNoSuccessor
	}
	return best, nil
}
