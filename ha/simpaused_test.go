package ha

import (
	"testing"
	"time"
)

// paused lets the active stand still, as SIGSTOP does, and then a standby, each with a write under way. That what they have missed comes late is no fault of
// their disks, and no want of processor: nobody sees them say so at any moment.
func paused(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm = true
	c := newSim(cfg)
	c.await("active", func() bool { return c.active() != nil })
	c.w.Run(c.w.Now()+time.Second, nil)
	a := c.active()
	if a == nil {
		return c
	}
	for _, m := range []*simMember{a, c.members[(a.i+1)%3]} {
		m.stalledTo = c.w.Now() + 50*time.Millisecond
		c.w.Run(c.w.Now()+40*time.Millisecond, nil)
		m.process.Pause(time.Second)
		c.w.Run(c.w.Now()+2*time.Second, func() bool {
			switch v := &m.role.view; {
			case v.DiskSince != 0:
				c.check.fail("%s says after a pause that its disk does not answer", m.name)
			case v.Late != 0:
				c.check.fail("%s says after a pause that it is starved", m.name)
			default:
				return false
			}
			return true
		})
	}
	c.finish()
	return c
}

func TestG8_Paused(t *testing.T) { seeds(t, paused) }
