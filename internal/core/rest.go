package core

import "time"

// A leader that has nothing to say, and whose last round of heartbeats all voters have answered, rests for longer before the next but one: for two
// and a half heartbeats, or as long as leaves three rounds in the shortest promise. Each round wakes every member, which is most of what a cluster
// costs that has nothing to do. Nobody waits longer for that: a round that is not answered is the last before the leader knows that it is deaf, where
// it takes two that are half as far apart, and followers who hear nothing have waited since the last.
//
// It rests until one of the moments at which all that is done now and then is done (internal/moment), and so do followers between two looks at how they get
// to run: else each of these would be one more time at which a process is woken. Nothing depends on where the moments are.

const (
	restHalves = 5 // how many halves of a heartbeat such a leader rests
	calmBeats  = 5 // how many heartbeats a follower that was woken in time goes without a look
	restOf     = 3 // of a promise, so many parts
	restParts  = 10
)

// Align says by how much the clock on the wall, by which the moments are, is ahead of the core's.
func (c *Core) Align(ahead time.Duration) { c.ahead = ahead }

// moment returns the next of the moments that are no more than apart from each other: an election timeout, its half, or half of that, and so on. It
// leaves out one that is very near: most likely that is the one for which this member was woken.
func (c *Core) moment(now, apart time.Duration) (at, every time.Duration) {
	for every = c.cfg.ElectionTimeout; every > apart && every > minBeat; {
		every /= 2
	}
	passed := (now + c.ahead) % every
	if passed < 0 {
		passed += every
	}
	if at = now + every - passed; at-now < every/8 {
		at += every
	}
	return at, every
}

// nextBeat is when the next round of heartbeats is due after one at a time.
func (c *Core) nextBeat(now time.Duration) time.Duration {
	l, voters := &c.lease, c.members.voters
	interval := l.interval(voters, l.supported(voters) != 0)
	if l.resting {
		apart := c.cfg.Heartbeat * restHalves / 2
		for _, e := range l.echoes {
			if voters.has(e.id) {
				apart = min(apart, e.length/restParts*restOf)
			}
		}
		if at, every := c.moment(now, apart); every > interval {
			return at
		}
	}
	return now + interval
}

// quiet reports whether this leader may rest: nothing was committed since the last round and nothing is under way, all voters have
// answered it, and this member gets to run.
func (c *Core) quiet() bool {
	l := &c.lease
	return l.rests && l.stamps() && l.allAnswered(c.members.voters) &&
		c.told.Index == c.pos.Index && c.pace.bytes == 0 && !c.stall.busy() && !c.starving.owes()
}

// allAnswered reports whether all voters have answered the last round.
func (l *lease) allAnswered(voters quorum) bool {
	for _, id := range voters.all() {
		if l.echoes.of(id).stamp != l.stamp {
			return false
		}
	}
	return true
}
