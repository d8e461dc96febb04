package ha

import (
	"testing"
	"time"
)

// starve lets members get to run late, by up to two tenths of a second at each turn and before each message is read,
// as beside eight goroutines that compute on one processor.
func (c *simCluster) starve(late time.Duration, members ...*simMember) {
	for _, m := range members {
		m.starved = late
	}
}

// starvedActive starves the active, and later everybody.
func starvedActive(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm = true
	c := newSim(cfg)
	c.await("active", func() bool { return c.active() != nil })
	c.w.Run(c.w.Now()+2*time.Second, nil)
	a := c.active()
	if a == nil {
		return c
	}
	c.starve(120*time.Millisecond, a)
	began := c.w.Now()
	c.await("active that gets to run", func() bool { return c.active() != nil && c.active() != a })
	if took := c.w.Now() - began; took > 20*time.Second {
		c.check.fail("it took %v until a member was active that gets to run", took)
	}
	c.starve(0, a)
	c.w.Run(c.w.Now()+5*time.Second, nil)

	terms, tenures := c.active().role.lead.term, c.check.tenures
	c.starve(200*time.Millisecond, c.members...)
	c.w.Run(c.w.Now()+20*time.Second, nil)
	for _, m := range c.members {
		if m.core.View(m.local()).Late == 0 {
			c.check.fail("%s does not say that it is starved", m.name)
		}
		if m.role.lead.term > terms+4 {
			c.check.fail("%d elections in 20 s", m.role.lead.term-terms)
		}
	}
	if n := c.check.tenures - tenures; n > 8 {
		c.check.fail("%d changes of role in 20 s", n)
	}
	c.starve(0, c.members...)
	c.w.Run(c.w.Now()+5*time.Second, nil)
	for _, m := range c.members {
		if m.core.View(m.local()).Late != 0 {
			c.check.fail("%s still says that it is starved", m.name)
		}
	}
	c.finish()
	return c
}

// TestG8_Starved: a member that does not get to run says so, hands the role over to one that does, and if none does, the role does
// not wander about.
func TestG8_Starved(t *testing.T) { seeds(t, starvedActive) }
