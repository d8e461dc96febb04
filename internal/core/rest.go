package core

// A leader that has nothing to say, and whose last round of heartbeats all voters have answered, rests for longer before the next but one: for two
// heartbeats, or as long as leaves five rounds in the shortest promise. Each round wakes every member, which is most of what a cluster
// costs that has nothing to do. Nobody waits longer for that: a round that is not answered is the last before the leader knows that it is deaf, where
// it takes two that are half as far apart, and followers who hear nothing have waited since the last.

// restBeats is how many heartbeats such a leader rests at most.
const restBeats = 2

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
