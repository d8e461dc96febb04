package core

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/baton-ha/baton/internal/mutant"
)

// A member that does not get to run hears too late what was said in time: it would take a leader for dead whose
// heartbeats lie in its sockets, and hold leases that are nearly over when it learns of them. It notices by its own
// timers. Each time that the core is woken later than it wanted, the lateness is added to a debt, which a quarter of the
// time that passes pays off. A member whose debt is high says so (problem "starved", and in its echoes), waits longer before it
// campaigns, hands over if it leads and another one is well, and does not take a role up again at once that it
// has just lost for it.

// problemStarved is the kind of [Problem] of a member that does not get to run.
const problemStarved = "starved"

const (
	starvedPart  = 4 // of the time, one part of this many, may be lateness
	severalLates = 3
	maxDebt      = 2  // election timeouts
	firstHold    = 2  // election timeouts for which a role that was lost is not taken up again
	maxHolds     = 6  // doublings of that
	forgetHold   = 64 // election timeouts without a loss after which it is the first again
	handOverRest = 6  // election timeouts between two hand-overs because of it
)

// largeRest is how many election timeouts a large batch may be felt.
const largeRest = 4

// A starvation is what a core knows of how it gets to run.
type starvation struct {
	wakeAt  time.Duration // when it wants to be woken, 0: not yet
	paidAt  time.Duration
	debt    time.Duration
	lates   int           // how often it was woken late while there was a debt
	latest  time.Duration // the greatest lateness since it was told
	told    bool
	patient bool          // it has waited once more before it campaigns
	handAt  time.Duration // before which it does not hand over again
	// largeTill is until when its own large records may be what makes it late: another would have them next.
	largeTill time.Duration
	holdTill  time.Duration // before which it reports no lease
	lostAt    time.Duration // when it last lost one
	holds     int
}

// awake takes note of being woken, and asks for the next time.
func (c *Core) awake(now time.Duration) {
	s := &c.starving
	e := c.cfg.ElectionTimeout
	s.debt = max(0, s.debt-(now-s.paidAt)/starvedPart)
	s.paidAt = now
	if s.wakeAt != 0 && now < s.wakeAt {
		return
	}
	if late := now - s.wakeAt; s.wakeAt != 0 && !mutant.On(mutant.NeverStarved) {
		if s.debt == 0 {
			s.lates = 0
		}
		if late >= c.cfg.Heartbeat/2 {
			s.lates++
		}
		s.debt = min(s.debt+late, maxDebt*e)
		s.latest = max(s.latest, late)
	}
	s.wakeAt = now + c.cfg.Heartbeat
	switch {
	case !s.told && c.starved():
		s.told = true
		c.eff.Changes = append(c.eff.Changes, Problem{Kind: problemStarved, Err: fmt.Errorf(
			"baton: this member does not get to run in time: it was woken up to %v late", s.latest.Round(time.Millisecond))})
	case s.told && s.debt < e/8:
		s.told, s.latest, s.holdTill = false, 0, 0
		c.eff.Changes = append(c.eff.Changes, Problem{Kind: problemStarved})
	}
}

// starved reports whether this member has not got to run for a good part of the last time. One long pause does not count.
func (c *Core) starved() bool {
	return c.starving.debt >= c.cfg.ElectionTimeout/2 && c.starving.lates >= severalLates
}

// impatient reports whether a campaign that is due may begin. One that is due while this member has just been
// woken late waits once more: what the leader has said meanwhile may be about to be heard.
func (c *Core) impatient(now time.Duration) bool {
	late := now - c.electAt
	if c.starving.patient || late < c.cfg.Heartbeat || !c.starved() {
		return true
	}
	c.starving.patient = true
	c.electAt = now + min(late, c.cfg.ElectionTimeout)
	return false
}

// relieve lets the role machine hand over to a member that is well.
func (c *Core) relieve(now time.Duration) {
	if !c.starved() || now < c.starving.handAt || now >= c.lease.until || now < c.starving.largeTill {
		return
	}
	if to, err := c.successor(now, 0, true); err == nil {
		c.starving.handAt = now + handOverRest*c.cfg.ElectionTimeout
		c.eff.Changes = append(c.eff.Changes, TransferAsked{By: to})
	}
}

// lapsed takes note of a role that has ended with its lease. For a while none is reported, since the next would be lost as soon.
func (c *Core) lapsed(now time.Duration) {
	s := &c.starving
	if !s.told || c.state != raft.StateLeader {
		return
	}
	if now-s.lostAt > forgetHold*c.cfg.ElectionTimeout {
		s.holds = 0
	}
	s.lostAt = now
	s.holdTill = now + firstHold*c.cfg.ElectionTimeout<<min(s.holds, maxHolds)
	s.holds++
}
