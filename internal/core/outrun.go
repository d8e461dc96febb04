package core

import "time"

// A member that lags comes to its end only if it gets more than is appended. It gets that without pauses first, and then several pieces at a
// time (flow.go). Where all of that is less than twice what is appended, appends and old entries want the same disk or the same processor, and
// what the member gets more, appends must get less. So then each batch is followed by pieces of twice its size before the next one is proposed, or by as long a
// time as two take to be committed one after the other: about half of the speed of appends is left.
//
// That is of no use to a member whose own disk, or the way to it, carries less than is appended even so. One that has come no nearer in
// a while holds up nobody any more, and it is said (progress.go).

// outrunPatience is after how long a member that is outrun must have come nearer.
const outrunPatience = 10 * time.Second

// An outrun is whether a member comes nearer that gets all that can be got to it, and less than it should.
type outrun struct {
	since time.Duration // when that was looked at last; 0: it is not so
	lacks uint64        // how many entries it lacked then
	vain  bool          // it had come no nearer since the time before
}

// look takes note that it is so, and how many entries the member lacks.
func (o *outrun) look(now time.Duration, lacks uint64) {
	switch {
	case o.since == 0:
		*o = outrun{since: now, lacks: lacks}
	case now-o.since >= outrunPatience:
		*o = outrun{since: now, lacks: lacks, vain: lacks >= o.lacks}
	}
}

// hold holds batches back, after one was proposed, if they outrun a member.
func (c *Core) hold(now time.Duration, b *Batch) {
	for _, f := range c.flows {
		lags := len(f.pieces)+len(c.shelf.runs)+len(c.shelf.wanted) > 0 // else it has all, and its flow ends soon
		if lags && f.wide == idleAhead && !f.outrun.vain {
			f.owed = nears * b.Size()
			c.pace.held, c.pace.heldTill = true, now+2*c.pace.commitTime
		}
	}
}

// unhold holds them back no longer, if every member has what it is owed or it has taken too long.
func (c *Core) unhold(now time.Duration) {
	c.pace.held = c.pace.held && now < c.pace.heldTill
	for _, f := range c.flows {
		if c.pace.held && f.owed > 0 {
			return
		}
	}
	c.pace.held = false
}
