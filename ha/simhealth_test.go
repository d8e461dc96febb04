package ha

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/log"
)

// This file simulates members that check their health, and tell each other how they are.

// simHealth is what a simulated member's checks find.
type simHealth struct {
	sick      bool
	turned    time.Duration // when that was decided, on virtual time
	spreading bool          // it is about to tell the others how it is

	callback, back int           // the number of the last callback that was begun, and of the last that has returned
	working        bool          // its OnActive has not returned
	endedAt        time.Duration // when the ctx of that ended, on its clock; 0: it has not
}

const (
	simCheckEvery = 200 * time.Millisecond
	simStrikes    = 2
	simDrain      = time.Second
)

var errSimSick = errors.New("planned sickness")

func (m *simMember) strikes() int {
	if !m.c.cfg.health {
		return 0
	}
	return simStrikes
}

// lookAfter checks the member's health again and again, and lets the others hear how it is.
func (m *simMember) lookAfter() {
	m.spreading, m.working = false, false
	m.callback++
	if !m.c.cfg.health {
		return
	}
	m.after(m.c.w.Between(0, 5*time.Millisecond), m.checkHealth)
	m.after(m.c.w.Between(0, m.timing.election), m.spreadAgain)
}

func (m *simMember) checkHealth() {
	m.post(checked{m.verdict()})
	m.after(simCheckEvery, m.checkHealth)
}

func (m *simMember) verdict() error {
	if m.sick {
		return errSimSick
	}
	return nil
}

// turn makes the member sick or well.
func (m *simMember) turn(sick bool) {
	if m.sick != sick {
		m.sick, m.turned = sick, m.c.w.Now()
	}
}

func (m *simMember) spreadAgain() {
	m.say()
	m.after(m.timing.election, m.spreadAgain)
}

// spread tells the others how it is, soon.
func (m *simMember) spread() {
	if !m.c.cfg.health || m.spreading {
		return
	}
	m.spreading = true
	m.after(m.timing.heartbeat, func() {
		m.spreading = false
		m.say()
	})
}

// say tells the others how it is, as Node does.
func (m *simMember) say() {
	now := m.local()
	s := news{every: m.timing.election}
	for _, o := range m.role.obstacles.list {
		x := newsObstacle{kind: o.kind, text: o.text, stood: now - o.since}
		if o.until != 0 {
			x.left = max(1, o.until-now)
		}
		s.obstacles = append(s.obstacles, x)
	}
	for _, o := range m.c.members {
		if o == m || m.c.cut[m.i][o.i] {
			continue
		}
		m.c.w.After(m.c.cfg.delay, func() { // in order, as on a stream
			if o.process.Up() {
				o.process.Do(func() { o.post(heardOf{m.id, s.here(o.local())}) })
			}
		})
	}
}

// fallSick makes the member sick for a while.
func (m *simMember) fallSick(lasts time.Duration) {
	m.turn(true)
	m.c.w.After(lasts, func() { m.turn(false) })
}

// known reports whether the others must have heard of what was decided about its health.
func (m *simMember) known() bool {
	return m.c.w.Now() > m.turned+simStrikes*simCheckEvery+2*m.timing.election
}

// told sees what a role asks of the log. The role is not handed over before OnActive has returned or has had its time; and where
// nothing else goes wrong, nobody is offered it who is known to be sick.
func (k *checker) told(m *simMember, events []log.Event) {
	for _, ev := range events {
		t, ok := ev.(log.Transfer)
		if !ok {
			continue
		}
		if m.working && (m.endedAt == 0 || m.local() < m.endedAt+simDrain) {
			k.fail("%s hands over, and its OnActive has not returned", m.name)
		}
		to := k.c.byID[t.To]
		if lag := m.lagOf(to); lag > maxLag {
			k.fail("%s hands over to %s, which lacks %d entries", m.name, to.name, lag)
		}
		if to.anew {
			k.fail("%s hands over to %s, which has started since it answered it, as it was told", m.name, to.name)
		}
		if k.c.cfg.fault == 0 && to.sick && to.known() {
			k.fail("%s hands over to %s, which is sick", m.name, to.name)
		}
	}
}

// sickness makes the active sick, and at times one of the others before; then the next, while the first has just recovered;
// and in the end everybody.
func sickness(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.health, cfg.appendEvery = true, true, time.Second
	c := newSim(cfg)
	settle := func(d time.Duration) { c.w.Run(c.w.Now()+d, nil) }
	for range 2 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		settle(c.w.Between(0, cfg.election))
		a := c.active()
		if a == nil {
			continue
		}
		b, well := c.members[(a.i+1)%3], c.members[(a.i+2)%3]
		if c.w.Chance(0.5) {
			b, well = well, b
		}
		b.turn(true)
		settle(2 * time.Second)
		if c.active() != a {
			c.check.fail("%s is not active any more, and it was %s that fell sick", a.name, b.name)
			return c
		}
		began := c.w.Now()
		a.turn(true)
		c.await("active that is well", func() bool { return c.active() == well })
		if took := c.w.Now() - began; took > 2*time.Second {
			c.check.fail("it took %v until a member was active that is well", took)
		}
		// The one was well a while ago, the other has just recovered.
		b.turn(false)
		settle(3 * time.Second)
		a.turn(false)
		settle(500 * time.Millisecond)
		well.turn(true)
		c.await("active that was not sick a moment ago", func() bool { return c.active() != nil && c.active() != well })
		if c.active() == a && len(c.check.faults) == 0 {
			c.check.fail("%s is active that has just recovered, and not %s", a.name, b.name)
		}
		well.turn(false)
		settle(6 * time.Second) // nobody stays away any more
	}
	for _, m := range c.members {
		m.turn(true)
	}
	settle(5 * time.Second)
	tenures := c.check.tenures
	settle(5 * time.Second)
	leader := slices.IndexFunc(c.members, func(m *simMember) bool { return m.role.lead.leading })
	switch {
	case c.active() != nil, c.check.tenures > tenures:
		c.check.fail("somebody is active, and everybody is sick")
	case leader < 0:
		c.check.fail("nobody leads any more, since everybody is sick")
	}
	began, first := c.w.Now(), c.members[c.w.Rand.IntN(3)]
	first.turn(false)
	if !c.await("active", func() bool { return c.active() != nil }) {
		return c
	}
	if c.active() != first {
		c.check.fail("%s is active, and it is %s that is well again", c.active().name, first.name)
	}
	if took := c.w.Now() - began; took > 4*time.Second {
		c.check.fail("it took %v from the first recovery until somebody was active", took)
	}
	for _, m := range c.members {
		m.turn(false)
	}
	c.finish()
	return c
}

// TestT9_Sickness: who is sick gives the role up to one that is well, and is not chosen; who was sick a moment ago is not chosen
// before one that was not; when everybody is sick nobody is active, and the first that recovers is.
func TestT9_Sickness(t *testing.T) { seeds(t, sickness) }
