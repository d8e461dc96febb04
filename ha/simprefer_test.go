package ha

import (
	"testing"
	"time"
)

// This file simulates members that are not alike: of different priority, and asked to stay away.

// stayAway asks the member to stay away, and a while later to come back.
func (m *simMember) stayAway(lasts time.Duration) {
	m.post(keepAway{"planned", &wish{reply: make(chan error, 1)}})
	m.after(lasts, func() { m.post(keepAway{}) })
}

// preferred lets the member of the highest priority die, come back, lag, catch up, stay away and come back.
func preferred(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.health, cfg.appendEvery = true, true, 50*time.Millisecond
	cfg.priorities, cfg.preempt, cfg.checkpoint = []int{1, 2, 3}, 2*time.Second, 1<<20
	c := newSim(cfg)
	settle := func(d time.Duration) { c.w.Run(c.w.Now()+d, nil) }
	best, next := c.members[2], c.members[1]
	is := func(m *simMember) func() bool { return func() bool { return c.active() == m } }
	stays := func(m *simMember, d time.Duration, while string) bool {
		settle(d)
		if c.active() != m && len(c.check.faults) == 0 {
			c.check.fail("%s is not active any more, while %s", m.name, while)
		}
		return len(c.check.faults) == 0
	}
	if !c.await("active of the highest priority", is(best)) {
		return c
	}
	best.crash()
	if !c.await("active of the next priority", is(next)) {
		return c
	}
	settle(c.w.Between(0, cfg.election))
	best.start(false)
	if seed%4 == 1 { // it is alive, and lags
		c.swallow(func(_, to *simMember) bool { return to == best })
		c.cfg.appendEvery = 2 * time.Millisecond
		if !c.await("member that lags", func() bool { return next.lagOf(best) > maxLag }) {
			return c
		}
		c.cfg.appendEvery = cfg.appendEvery
		if !stays(next, cfg.preempt+time.Second, "the best lags") {
			return c
		}
		c.lose = nil
	}
	if began := c.w.Now(); !c.await("active of the highest priority", is(best)) {
		return c
	} else if took := c.w.Now() - began; took < cfg.preempt || took > cfg.preempt+3*time.Second {
		c.check.fail("the best got the role %v after it could catch up", took)
	}
	settle(time.Second) // until it has heard the others, or it is refused: there is nobody yet to hand over to
	best.post(keepAway{"planned", &wish{reply: make(chan error, 1)}})
	if !c.await("active of the next priority", is(next)) || !stays(next, 2*cfg.preempt, "the best stays away") {
		return c
	}
	best.post(keepAway{})
	if !c.await("active of the highest priority", is(best)) {
		return c
	}
	c.finish()
	return c
}

// lagOf is how many entries another member lacks, as this one, which leads, knows.
func (m *simMember) lagOf(o *simMember) uint64 {
	for _, p := range m.core.View(m.local()).Peers {
		if p.ID == o.id {
			return p.Behind
		}
	}
	return 0
}

// TestT9_Preferred: the member of the highest priority gets the role back when it is well, has caught up and does not stay
// away, and not before.
func TestT9_Preferred(t *testing.T) { seeds(t, preferred) }

// TestT9_NobodyPreempts: without Config.Preempt the role stays where it is, and a hand-over goes to the highest priority.
func TestT9_NobodyPreempts(t *testing.T) {
	cfg := defaultSim(1)
	cfg.calm, cfg.health, cfg.priorities = true, true, []int{1, 2, 3}
	c := newSim(cfg)
	c.await("active", func() bool { return c.active() != nil })
	c.w.Run(c.w.Now()+2*time.Second, nil)
	for range 3 {
		a, tenures := c.active(), c.check.tenures
		c.w.Run(c.w.Now()+10*time.Second, nil)
		if c.active() != a || c.check.tenures != tenures {
			t.Fatal("the role has moved without being asked")
		}
		best := c.members[2]
		if a == best {
			best = c.members[1]
		}
		a.post(asked(false))
		c.await("active of the highest priority", func() bool { return c.active() == best })
	}
	if c.finish(); len(c.check.faults) > 0 {
		t.Error(c.check.faults)
	}
}
