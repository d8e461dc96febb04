package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// heardLate holds up what the others say to the Active, as a network does that loses packets in one direction: it comes later, all at
// once. Around then the Active is cut off for good in the other direction. A few times.
func heardLate(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm = true
	c := newSim(cfg)
	for range 4 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(300*time.Millisecond, 600*time.Millisecond), nil)
		a := c.active()
		if a == nil {
			continue
		}
		held := c.w.Between(cfg.election/4, cfg.election)
		until := c.w.Now() + held
		c.lose = func(from, to *simMember, m *raftpb.Message, _ int) bool {
			if to != a || c.w.Now() >= until {
				return false
			}
			c.w.After(until-c.w.Now(), func() { c.deliver(from, to, m) })
			return true
		}
		for _, o := range c.members {
			c.w.After(held-c.w.Between(0, cfg.heartbeat), func() { c.partition(a, o, true, false, 2*cfg.election) })
		}
		c.w.Run(c.w.Now()+4*cfg.election, func() bool { return len(c.check.faults) > 0 })
	}
	c.lose = nil
	c.finish()
	return c
}

// TestG4_Deaf: an Active that hears nobody, and is then told all at once what was said meanwhile, holds no lease for it.
func TestG4_Deaf(t *testing.T) { seeds(t, heardLate) }

// TestSilence: whatever is cut, somebody else is Active soon after the election timeout.
func TestSilence(t *testing.T) {
	for _, shape := range []struct {
		name    string
		out, in bool
		most    float64 // election timeouts
	}{
		{"both ways", true, true, 1.3}, {"out", true, false, 1.3}, {"in", false, true, 1.5},
	} {
		t.Run(shape.name, func(t *testing.T) {
			seeds(t, func(seed uint64) *simCluster {
				cfg := defaultSim(seed)
				cfg.calm = true
				c := newSim(cfg)
				if !c.await("active", func() bool { return c.active() != nil }) {
					return c
				}
				c.w.Run(c.w.Now()+c.w.Between(300*time.Millisecond, 600*time.Millisecond), nil)
				a, cut := c.active(), c.w.Now()
				for _, o := range c.members {
					c.partition(a, o, shape.out, shape.in, time.Hour)
				}
				if c.await("another active", func() bool { n := c.active(); return n != nil && n != a }) {
					if took := c.w.Now() - cut; took > time.Duration(shape.most*float64(cfg.election)) {
						c.check.fail("another is active after %v", took)
					}
				}
				return c
			})
		})
	}
}
