package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// This file is what the clock asks for: a leader's heartbeats, and the lease that rests on them; the campaign of a voter that
// hears of no leader.

// tick does what the clock asks for.
func (c *Core) tick(now time.Duration) {
	switch {
	case c.state == raft.StateLeader:
		c.lead(now)
	case c.voter.due(now, c.starving.starved()):
		c.voter.again(now, c.starving.wait(), len(c.members.voters.all()))
		if c.members.votes(c.cfg.ID) && !c.stall.stalled(now) {
			c.campaign(now)
		}
	}
}

// lead sends a round of heartbeats if it is due.
func (c *Core) lead(now time.Duration) {
	l := &c.lease
	if now < l.beatAt {
		return
	}
	l.resting = c.quiet()
	l.beatenAt, l.beatAt = now, c.nextBeat(now)
	c.starving.along(now, l.beatAt)
	if l.transferring != 0 && now >= l.transferring && c.transferee() == raft.None {
		l.transferring = 0 // raft has given up, and sends no TimeoutNow any more
	}
	c.pinLog(now)
	if c.stall.stalled(now) {
		return // a leader whose disk hangs is not alive: let it be replaced
	}
	if l.transferring == 0 {
		if c.watch(now) {
			c.giveWay(now)
			return
		}
		c.told = Heard{c.pos.Index, now}
		if l.round(now, c.cfg.ID) {
			c.promises.owe(promise{leader: c.cfg.ID, term: c.term, stamp: l.stamp, until: now + c.cfg.ElectionTimeout})
		}
		l.answer(now, c.members.voters) // where it is the only one
	}
	c.node.Tick()
}

// hurry sends the next heartbeats now if they are due soon.
func (c *Core) hurry(now time.Duration) {
	if l := &c.lease; c.state == raft.StateLeader && now >= l.beatAt-(l.beatAt-l.beatenAt)/2 {
		l.beatAt = now
		c.lead(now)
	}
}

// watch looks at how the entries get on, and reports whether the leader should give way.
func (c *Core) watch(now time.Duration) bool {
	s := sight{commit: c.node.BasicStatus().HardState.GetCommit(), bytes: c.pace.bytes, busy: c.stall.unwritten(now)}
	c.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		if id == c.cfg.ID {
			s.last = p.Match
			return
		}
		f := c.flows[id]
		s.peers = append(s.peers, sighted{id: id, match: p.Match, restoring: p.State == tracker.StateSnapshot, snapshot: p.PendingSnapshot,
			observes: typ == raft.ProgressTypeLearner, alive: c.lease.alive(id, now, aliveWithin*c.cfg.Heartbeat), outrun: f != nil && f.outrun.vain})
	})
	c.lately.note(now, c.cfg.ElectionTimeout, s.last)
	waited := c.progress.watch(now, s, c.members.names)
	c.report(c.progress.take())
	return c.progress.givesWay(waited, s.bytes) && now < c.lease.until
}

// renew works out the lease.
func (c *Core) renew(now time.Duration) {
	switch {
	case c.state != raft.StateLeader:
	case c.starving.holds(now):
		c.setLease(0)
	default:
		c.setLease(c.lease.end(c.members.voters))
	}
}

func (c *Core) setLease(until time.Duration) {
	if until != c.lease.until {
		c.lease.until = until
		c.change(Lease{Until: until})
	}
}

// wait starts the wait for the leader's next sign of life anew.
func (c *Core) wait(now time.Duration) { c.voter.wait(now, c.starving.wait(), c.rank()) }

// rank is this member's among those who would replace the leader.
func (c *Core) rank() int { return c.members.rank(c.cfg.ID, c.leader) }

// campaign asks for votes, of which its own is the first: so it waits as long as that would break a promise.
func (c *Core) campaign(now time.Duration) {
	if c.promises.forbids(now, c.term+1, 0) {
		c.voter.notBefore(c.promises.free())
		return
	}
	c.chain.campaign()
	_ = c.node.ForgetLeader()
	c.shelf.scanning, c.shelf.found = true, false
	_ = c.node.Campaign()
	c.shelf.scanning = false
	if c.shelf.found { // what is committed is handed out first; that takes a moment after a start
		c.voter.electAt = min(c.voter.electAt, now+handOutPause+c.voter.random(handOutPause))
	}
}

// handOutPause is how long a member that would campaign waits for what it has to read and hand out before.
const handOutPause = 10 * time.Millisecond

// gone takes the evidence that a member's process has ended: what is owed to it is void, and if it leads it is replaced.
func (c *Core) gone(now time.Duration, ev Gone) {
	if c.voter.heardAt > ev.At || time.Duration(c.lease.echoes.of(ev.ID).stamp) > ev.At {
		return // a leader was heard since, or it: perhaps a new process of that name
	}
	c.change(PeerGone{ev.ID})
	if !c.promises.countsEvidence(ev.ID) {
		return
	}
	c.promises.forgive()
	if c.leader != ev.ID || c.promises.term != c.term || c.state != raft.StateFollower {
		return
	}
	c.chain.gone = Reign{ev.ID, c.term}
	_ = c.node.ForgetLeader()
	rank := c.members.rank(c.cfg.ID, ev.ID)
	c.voter.hunt(now, rank)
	// Whoever goes first may have had the evidence a little earlier, and have asked: that is answered now, as if it had been longer on its way.
	if m := c.voter.asked; m != nil && c.members.rank(m.GetFrom(), ev.ID) < rank {
		c.receive(now, Receive{Message: m, At: ev.At})
	}
	c.voter.asked = nil
}
