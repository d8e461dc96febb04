package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// This file simulates virtual machines that are paused, and whose clocks do not count it: only the clock on the wall shows it, once somebody has set it.

// wall is the member's clock on the wall. It is right, as far as anybody can see who looks at it while the machine runs.
func (m *simMember) wall() func() time.Duration {
	if !m.c.cfg.walls {
		return nil
	}
	return func() time.Duration {
		return m.local() + m.missed + time.Duration(m.c.cfg.slew*float64(m.c.w.Now()))
	}
}

// doubt is how much time the member's clock may have missed of which its loop does not know yet.
func (m *simMember) doubt() time.Duration {
	if !m.c.cfg.walls {
		return 0
	}
	return m.loop.Doubt(m.local(), m.wall()())
}

// doubts reports whether what lasts until a time on the member's clock may be over by the clock on the wall.
func (m *simMember) doubts(until time.Duration) bool {
	return m.c.cfg.walls && m.local()+m.doubt() >= until
}

// holds is Node.Check of a tenure.
func (m *simMember) holds(t *simTenure) bool { return t.open && m.local()+m.doubt() < t.until }

// pauseMachine pauses the member's machine. The clock on the wall is set as soon as it goes on. What its own clock shows meanwhile nobody there sees: so
// that it goes back now, and shows when the machine goes on what it has shown before, is as good as that it stands still.
func (m *simMember) pauseMachine(lasts time.Duration) {
	m.missed += lasts
	m.process.Pause(lasts)
}

// pausedMachine has the machine of the active paused again and again, for a part of a lease or for more than one, while nobody hears it.
func pausedMachine(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.walls = true, true
	c := newSim(cfg)
	for range 20 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(0, cfg.election), nil)
		a := c.active()
		if a == nil {
			continue
		}
		cut := func() { c.cutOff(time.Hour, a) }
		switch c.w.Rand.IntN(6) {
		case 5: // it has just begun to lead, and what it was promised first comes when it goes on
			a.crash()
			leads := func() bool {
				for _, m := range c.members {
					if m.process.Up() && m.role.lead.leading && m.core.LeaseUntil() == 0 {
						a = m
						return true
					}
				}
				return false
			}
			was := a
			c.w.Run(c.w.Now()+4*cfg.election, leads)
			was.start(false)
			if a == was {
				continue
			}
			c.w.Run(c.w.Now()+c.w.Between(0, cfg.delay), nil)
			c.w.After(2*cfg.delay, cut)
		case 0: // it hears the others again as soon as it goes on
		case 1, 2: // what they have answered last comes when it goes on
			beaten := false
			c.lose = func(from, _ *simMember, m *raftpb.Message, _ int) bool {
				beaten = beaten || from == a && m.GetType() == raftpb.MsgHeartbeat
				return false
			}
			c.w.Run(c.w.Now()+2*cfg.heartbeat, func() bool { return beaten })
			c.lose = nil
			c.w.Run(c.w.Now()+c.w.Between(0, cfg.delay), nil)
			c.w.After(2*cfg.delay, cut)
		default:
			cut()
		}
		longest := cfg.election / 4
		if c.w.Chance(0.5) {
			longest *= 3
		}
		for range 1 + c.w.Rand.IntN(6) {
			lasts := c.w.Between(cfg.heartbeat, longest)
			a.pauseMachine(lasts)
			c.w.Run(c.w.Now()+lasts+c.w.Between(time.Millisecond, cfg.heartbeat), nil)
		}
		c.w.Run(c.w.Now()+2*cfg.election, nil)
		for i := range c.cut {
			clear(c.cut[i])
		}
	}
	c.finish()
	return c
}

// TestG4_PausedMachine: where the active's machine is paused, and its clock does not count it, its token is good for nothing as soon as the clock on
// the wall is right again, if another may be active; and a pause that is shorter counts, too.
func TestG4_PausedMachine(t *testing.T) { seeds(t, pausedMachine) }

// slewed has the clocks on the walls set by making them faster, as fast as time daemons do, and the members far from each other.
func slewed(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.walls, cfg.slew, cfg.delay = true, true, 1./12, 40*time.Millisecond
	c := newSim(cfg)
	c.await("active", func() bool { return c.active() != nil })
	c.w.Run(c.w.Now()+3*time.Second, nil)
	tenures := c.check.tenures
	c.w.Run(c.w.Now()+30*time.Second, nil)
	if n := c.check.tenures - tenures; n > 0 {
		c.check.fail("while clocks were slewed there were %d changes of role in 30 s", n)
	}
	c.finish()
	return c
}

// TestG4_Slewed: a clock on the wall that is set slowly costs no role.
func TestG4_Slewed(t *testing.T) { seeds(t, slewed) }
