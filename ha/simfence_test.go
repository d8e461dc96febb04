package ha

import (
	"errors"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
)

// This file simulates OnFence, and looks at whether it was called when it had to be, and told the truth.

// simFence is the OnFence of a simulated member.
type simFence struct {
	fencing uint64 // the epoch whose holder is being kept out, 0: none is
}

const simFenceTimeout = 500 * time.Millisecond

func (c simConfig) fenceTimeout() time.Duration {
	if !c.fences {
		return 0
	}
	return simFenceTimeout
}

// runFence plays OnFence, which fails or takes too long at times.
func (m *simMember) runFence(p Previous) {
	m.c.check.fencing(m, p)
	m.fencing = p.Epoch
	d, err := m.c.w.Between(0, 30*time.Millisecond), error(nil)
	switch {
	case m.c.cfg.calm:
	case m.c.w.Chance(0.3):
		err = errors.New("planned failure")
	case m.c.w.Chance(0.1):
		d = simFenceTimeout + m.c.w.Between(0, 2*simDrain)
	}
	m.after(d, func() {
		if m.fencing != p.Epoch {
			return // its ctx has ended, and it has returned
		}
		m.fencing = 0
		if err == nil {
			m.c.check.fenced[p.Name] = max(m.c.check.fenced[p.Name], p.Epoch)
		}
		m.post(fenceDone{err: err})
	})
}

// endFence ends OnFence's ctx. Mostly it returns then; else later.
func (m *simMember) endFence(cause error) {
	if m.c.w.Chance(0.8) {
		m.fencing = 0
		m.after(0, func() { m.post(fenceDone{err: cause, ended: cause != errFenceTimeout}) })
	}
}

// fencing sees OnFence being called.
func (k *checker) fencing(m *simMember, p Previous) {
	e, ok := k.epochs[p.Epoch]
	if ok && e.Holder != p.Name {
		k.fail("%s is told that %s was active in epoch %d, and it was %s", m.name, p.Name, p.Epoch, e.Holder)
	}
	was, ok := k.lives[p.Epoch]
	if !ok || !was.goesOn() {
		return // likewise if nobody became active in it
	}
	if o := was.of; p.Ended == EndedGone || p.Ended == EndedRestarted {
		k.fail("%s is told that the process of %s that was active in epoch %d is gone (%s), and it lives", m.name, o.name, p.Epoch, p.Ended)
	} else if o.tenure != nil && o.tenure.open {
		k.fail("%s fences %s, which is active", m.name, o.name)
	}
}

// A simLife is one process of a member. Who has replaced a member has its name, and is another one.
type simLife struct {
	of   *simMember
	life int
}

func (m *simMember) present() simLife { return simLife{m, m.process.Life()} }

// goesOn reports whether the process lives.
func (l simLife) goesOn() bool { return l.of.process.Up() && l.of.process.Life() == l.life }

// keptOut sees OnActive being called, after the tenure of a token.
func (k *checker) keptOut(m *simMember, last fence.Token) {
	k.lives[m.role.phase.token.Epoch] = m.present()
	if !k.c.cfg.fences || !last.Valid() {
		return
	}
	if own := last.Holder == m.name && k.lives[last.Epoch] == m.present(); !own && k.fenced[last.Holder] < last.Epoch {
		k.fail("%s becomes active, and no OnFence has kept %s out that was active in epoch %d", m.name, last.Holder, last.Epoch)
	}
}

// leader is a member that leads as far as it knows, the one of the latest term, nil if there is none.
func (c *simCluster) leader() (latest *simMember) {
	for _, m := range c.members {
		if m.process.Up() && m.role.lead.leading && (latest == nil || m.role.lead.term > latest.role.lead.term) {
			latest = m
		}
	}
	return latest
}

// kept lets one active die, be cut off, or be asked to go after the other, with an OnFence that fails often.
func kept(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.fences, cfg.appendEvery, cfg.slowApply = true, time.Second, 300*time.Millisecond
	c := newSim(cfg)
	for range 10 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(0, 2*cfg.election), nil)
		a := c.active()
		if a == nil {
			continue
		}
		switch lasts := c.w.Between(0, 4*cfg.election); c.w.Rand.IntN(5) {
		case 0:
			a.crash()
			c.w.After(lasts, func() { a.start(false) })
		case 1:
			c.cutOff(lasts, a)
		case 2:
			a.process.Pause(lasts)
		case 3:
			a.post(asked(false))
		case 4: // and its successor is cut off before it knows, or has done, all that it must
			a.post(asked(false))
			var next *simMember
			c.w.Run(c.w.Now()+cfg.election, func() bool { next = c.leader(); return next != nil && next != a })
			if next == nil || next == a {
				continue
			}
			next.applyEvery = cfg.election
			c.w.Run(c.w.Now()+c.w.Between(0, 50*time.Millisecond), nil)
			c.cutOff(time.Second+lasts, next)
			next.after(3*cfg.election, func() { next.applyEvery = 0 })
		}
		c.w.Run(c.w.Now()+cfg.election, func() bool { return len(c.check.faults) > 0 })
	}
	c.finish()
	return c
}

// TestT9_Fencing: before anybody becomes active an OnFence has kept out whoever was before, however often it fails, whoever leads
// meanwhile, and what it is told of the other's end is true.
func TestT9_Fencing(t *testing.T) { seeds(t, kept) }
