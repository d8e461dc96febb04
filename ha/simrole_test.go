package ha

import (
	"errors"
	"time"

	"github.com/baton-ha/baton/log"
)

// This is what a member of a simulation does for its role machine: it plays the callbacks, and the timer beside the loop.

// Posted implements [log.Observer], as Node does.
func (m *simMember) Posted(now time.Duration, view log.View, mail log.Mail) []log.Event {
	return m.observe(now, view, inputOf(mail))
}

// Changed implements [log.Observer], as Node does.
func (m *simMember) Changed(now time.Duration, view log.View, change log.Change) []log.Event {
	events := m.observe(now, view, reported{change})
	switch c := change.(type) {
	case log.Problem:
		if c.Err == nil {
			delete(m.problems, c.Peer)
		} else {
			m.problems[c.Peer] = c.Err
		}
	case log.Leadership:
		if c.Leading {
			m.c.check.led(m, c.Term)
		}
	case log.RosterChanged:
		m.rosterChanged(c.Roster)
	case log.Lease:
		m.c.check.leased(m, c.Until)
		if t := m.tenure; t != nil {
			sooner := c.Until < t.until
			if t.until = c.Until; sooner {
				m.watchLease(t)
			}
		}
	case log.Doubted:
		if t := m.tenure; t != nil && m.holds(t) {
			m.c.check.fail("%s gives up a lease in doubt, and %v is still good (G4)", m.name, t.token)
		}
	}
	return events
}

// observe steps the role, and carries out what it wants.
func (m *simMember) observe(now time.Duration, view log.View, in input) []log.Event {
	if view.DiskSince != 0 {
		m.slow, m.quick = true, 0
	}
	switch in := in.(type) {
	case callbackDone:
		if m.role.phase.open() && in.err != nil {
			m.coolTill = now + simCoolDown
		}
	case become:
		if in.wish.active {
			m.coolTill = 0
		}
	}
	out := m.role.step(now, view, in)
	for _, a := range out.actions {
		switch a := a.(type) {
		case run:
			m.run(a.phase)
		case end:
			m.endTenure()
			m.afterCallback(nil)
		case runFence:
			m.runFence(a.previous)
		case endFence:
			m.endFence(a.cause)
		case obstructed, cleared:
			m.spread()
		case probeDisk:
			m.probe()
		}
	}
	m.c.check.told(m, out.events)
	return out.events
}

// simCoolDown is how long a member stays away whose OnActive has failed, at least.
const simCoolDown = time.Second

// asked is a wish whose answer nobody waits for.
func asked(active bool) become { return become{&wish{active: active, reply: make(chan error, 1)}} }

// run plays a callback.
func (m *simMember) run(p phase) {
	m.callback++
	if !p.active {
		return
	}
	t := &simTenure{token: p.token, until: m.role.lead.lease, open: true}
	m.tenure, m.working, m.endedAt = t, true, 0
	m.c.check.active(m, p.token)
	if left := m.coolTill - m.local(); left > 0 {
		m.c.check.fail("%s is active %v before it has cooled down, since OnActive has failed", m.name, left)
	}
	if m.slow && m.quick < probesNeeded {
		m.c.check.fail("%s is active, and its disk, which did not answer, was fast %d times since", m.name, m.quick)
	}
	m.slow = false
	m.watchLease(t)
	if !m.c.cfg.calm && m.c.w.Chance(0.05) { // OnActive fails after a while
		m.after(m.c.w.Between(0, time.Second), func() {
			if m.tenure == t {
				m.returns(m.callback, errors.New("planned failure"))
			}
		})
	}
}

// watchLease is the timer beside the loop. A paused process does not run it, but its ctx counts as done
// by its own clock.
func (m *simMember) watchLease(t *simTenure) {
	life := m.process.Life()
	m.c.w.After(m.until(t.until), func() {
		if m.process.Life() != life || !t.open {
			return
		}
		if m.local() < t.until {
			m.watchLease(t)
			return
		}
		t.open = false
		m.after(0, func() { m.post(expired{t.token}) })
	})
}

func (m *simMember) endTenure() {
	if m.tenure != nil {
		m.endedAt = m.local()
		m.tenure.open = false
		m.tenure = nil
	}
}

// afterCallback lets the callback return whose ctx has ended.
func (m *simMember) afterCallback(err error) {
	if m.role.phase.returned {
		return
	}
	d := time.Duration(0)
	if !m.c.cfg.calm {
		d = m.c.w.Between(0, 20*time.Millisecond)
		if m.c.w.Chance(0.02) {
			d = 2 * time.Second // hangs past the drain timeout
		}
	}
	callback := m.callback
	m.after(d, func() { m.returns(callback, err) })
}

// returns lets a callback return, once.
func (m *simMember) returns(callback int, err error) {
	if callback != m.callback || callback == m.back {
		return
	}
	m.working, m.back = false, callback
	m.post(returned(err))
}
