package ha

import (
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/log"
)

// This file simulates members whose timing values differ, and change from one start to the next.

type simTiming struct {
	heartbeat, election time.Duration
	drift               float64
}

// retime sets the values with which the member starts.
func (m *simMember) retime() {
	cfg := m.c.cfg
	m.timing = simTiming{cfg.heartbeat, cfg.election, cfg.drift}
	if cfg.timings != nil {
		m.timing = cfg.timings[m.i]
	}
	if !cfg.retimed {
		return
	}
	w := m.c.w
	m.timing.heartbeat = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 400 * time.Millisecond}[w.Rand.IntN(3)]
	m.timing.election = time.Duration(6+w.Rand.IntN(7)) * m.timing.heartbeat
	if m.i == 0 { // the larger drift of two members counts, so one may have too small a value
		m.timing.drift *= w.Rand.Float64()
	}
}

// proxied reports whether the member sits behind a proxy that refuses connections although the member is alive. It has
// set NoCrashEvidence, the others have not.
func (m *simMember) proxied() bool { return m.c.cfg.retimed && m.i == 0 }

// refuse makes the proxy refuse everybody's connections.
func (m *simMember) refuse() {
	for _, o := range m.c.members {
		if o != m && o.process.Up() {
			o.post(core.Gone{ID: m.id, At: o.local()})
		}
	}
}

// guard does with the member's directory what Node does.
func (m *simMember) guard() time.Duration {
	guard, keep := log.Guard(m.promised, m.timing.election)
	m.promised = keep
	m.after(m.until(m.local()+guard), func() { m.promised = m.timing.election })
	return guard
}

// mixedTiming is T4 with members whose values differ.
func mixedTiming(seed uint64, restart bool) *simCluster {
	cfg := defaultSim(seed)
	cfg.retimed = true
	if seed%2 == 0 {
		cfg.drift = 0.1
	}
	return t4With(cfg, 20, restart)
}

// TestG4_Timing: whatever the timing values of the members are, and whatever they were before a restart, the leases
// of one member and the elections of the others fit together. In T2, every third seed has such members as well.
func TestG4_Timing(t *testing.T) {
	for _, restart := range []bool{false, true} {
		seeds(t, func(seed uint64) *simCluster { return mixedTiming(seed, restart) })
	}
}

// calmTiming lets members with values that have nothing to do with each other be active one after the other, and nothing happens:
// the role changes when it is asked for, and at no other time. Half of them have nothing to do, so that the leader rests.
func calmTiming(seed uint64) *simCluster {
	fast := simTiming{20 * time.Millisecond, 200 * time.Millisecond, 0.01}
	usual := simTiming{50 * time.Millisecond, 500 * time.Millisecond, 0.01}
	slow := simTiming{time.Second, 10 * time.Second, 0.1}
	mixes := [][]simTiming{{fast, usual, slow}, {slow, fast, fast}, {slow, slow, fast}, {usual, slow, slow}}
	cfg := defaultSim(seed)
	cfg.calm, cfg.timings = true, mixes[seed%4]
	if seed/4%2 == 0 {
		cfg.appendEvery = 0
	}
	c := newSim(cfg)
	c.await("active", func() bool { return c.active() != nil })
	for _, m := range c.members {
		if c.active() != m {
			c.w.Run(c.w.Now()+25*time.Second, nil) // nobody is guarded any more
			m.post(asked(true))
			c.await("wanted active", func() bool { return c.active() == m })
		}
		tenures := c.check.tenures
		c.w.Run(c.w.Now()+30*time.Second, nil)
		if n := c.check.tenures - tenures; n > 0 {
			c.check.fail("with %s active there were %d changes of role in 30 s", m.name, n)
		}
	}
	c.finishQuietly()
	return c
}

// TestG4_MixedTimingIsCalm: members with values that have nothing to do with each other elect, keep and hand over an
// active as others do, whoever it is.
func TestG4_MixedTimingIsCalm(t *testing.T) { seeds(t, calmTiming) }
