package ha

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/sim"
	"github.com/baton-ha/baton/log"
)

// simBirth is what a member of a simulation knows of its birth. heard is lost in a crash, the rest is durable.
type simBirth struct {
	incarnation uint64
	born        bool
	birth       map[string]uint64
	peers       map[string]uint64
	forgotten   bool // it was refused, and has stopped for good
	heard       map[string]uint64
}

func (m *simMember) says() word {
	w := word{incarnation: m.birth.incarnation, born: m.birth.born, birth: m.birth.birth, known: maps.Clone(m.birth.heard)}
	if w.born {
		w.known = maps.Clone(m.birth.peers)
		w.known[m.name] = m.birth.incarnation
	}
	return w
}

// meets does what admit does: it reports whether m talks to another.
func (m *simMember) meets(o *simMember) bool {
	if !m.birth.born {
		m.birth.heard[o.name] = o.birth.incarnation
		return true
	}
	if known, ok := m.birth.peers[o.name]; ok {
		return known == o.birth.incarnation
	}
	m.birth.peers[o.name] = o.birth.incarnation
	return true
}

// awaitBirth asks all others, until the member is born.
func (m *simMember) awaitBirth() {
	if m.birth.incarnation == 0 {
		m.birth.incarnation = m.c.w.Rand.Uint64() | 1
	}
	m.birth.heard = map[string]uint64{m.name: m.birth.incarnation}
	m.askAll()
}

func (m *simMember) askAll() {
	said, words := maps.Clone(m.birth.heard), map[string]word{}
	for _, o := range m.c.members {
		if o != m {
			words[o.name] = word{err: errors.New("no answer")}
		}
	}
	life := m.process.Life()
	for _, o := range m.c.members {
		if o == m {
			continue
		}
		m.c.w.After(m.c.w.Between(0, 20*time.Millisecond), func() { // the question arrives
			if m.process.Life() != life || !o.process.Up() || o.process.Paused() || m.c.cut[m.i][o.i] || m.c.cut[o.i][m.i] {
				return
			}
			answer := word{err: ErrForgotten}
			if o.meets(m) {
				answer = o.says()
			}
			m.after(m.c.w.Between(0, 20*time.Millisecond), func() {
				words[o.name] = answer
				if answer.err == nil && !m.birth.born {
					m.birth.heard[o.name] = answer.incarnation
				}
			})
		})
	}
	m.after(50*time.Millisecond+m.c.w.Between(0, 50*time.Millisecond), func() {
		v := judgeBirth(m.name, said, words, nil)
		switch {
		case v.err != nil:
			m.crash()
			m.birth.forgotten = true
		case v.born && (v.joins || maps.Equal(said, m.birth.heard)):
			m.birth.born, m.birth.birth, m.birth.peers = true, v.birth, v.met
			m.post(log.Born{})
		default:
			m.askAll()
		}
	})
}

// wipe loses the member's directory.
func (m *simMember) wipe() {
	if m.birth.born {
		m.c.lost++
	}
	m.crash()
	var members []log.Member
	for _, o := range m.c.members {
		members = append(members, log.Member{ID: o.id, Name: o.name})
	}
	m.disk = sim.NewDisk(log.Boot(members))
	m.safe = *m.disk
	m.birth = simBirth{}
}

// births begins a cluster while members crash, are cut off, and lose their directories, also after it was born.
func births(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.births = true, true
	if seed%3 == 0 {
		cfg.members = 5
	}
	c := newSim(cfg)
	w := c.w
	wiped := false
	for end := w.Between(0, 4*time.Second); w.Now() < end && len(c.check.faults) == 0; {
		w.Run(w.Now()+w.Between(0, 300*time.Millisecond), func() bool { return len(c.check.faults) > 0 })
		m, lasts := c.members[w.Rand.IntN(len(c.members))], w.Between(0, time.Second)
		switch w.Rand.IntN(6) {
		case 0:
			m.crash()
		case 1:
			if m.birth.born && !slices.ContainsFunc(c.members, func(o *simMember) bool { return o != m && o.birth.born }) {
				continue // the last who remembers: after it there is nothing to protect
			}
			m.wipe()
			wiped = true
		case 2: // it remembers, and those who do not come back before it
			if !m.birth.born || m.birth.forgotten {
				continue
			}
			m.crash()
			for _, o := range c.members {
				if o != m && !o.birth.forgotten {
					o.wipe()
					w.After(w.Between(0, lasts), func() { o.start(false) })
				}
			}
			wiped, lasts = true, 2*lasts
		default:
			c.cutOff(lasts, m)
			continue
		}
		if m.birth.forgotten {
			continue
		}
		w.After(lasts, func() { m.start(false) })
	}
	c.heal()
	mark := c.value
	progress := func() bool { return len(c.check.faults) > 0 || c.check.lastAcked > mark }
	w.Run(w.Now()+20*time.Second, progress)
	c.check.end()
	// Those who were born together and are still there must work if they are a majority; and so must all, if none was lost.
	alive := 0
	for _, m := range c.members {
		if m.birth.born && !slices.ContainsFunc(c.members, func(o *simMember) bool { return o != m && o.birth.born && !o.meets(m) }) {
			alive++
		}
	}
	if (2*alive > len(c.members) || !wiped) && !progress() {
		for _, m := range c.members {
			c.check.fail("%s: up %v, %v, %+v", m.name, m.process.Up(), m.role.state(m.local()), m.birth)
		}
		c.check.fail("%d members were born together and are here, and do not work", alive)
	}
	return c
}

// TestG7_Births: however members crash and lose their directories while a cluster begins, and after, never does a
// second cluster take the place of one that was.
func TestG7_Births(t *testing.T) { seeds(t, births) }

func TestJudgeBirth(t *testing.T) {
	all := map[string]uint64{"a": 1, "b": 2, "c": 3}
	fresh := func(i uint64, known map[string]uint64) word { return word{incarnation: i, known: known} }
	born := func(i uint64, birth, known map[string]uint64) word {
		return word{incarnation: i, born: true, birth: birth, known: known}
	}
	ab := map[string]uint64{"a": 1, "b": 2}
	away := word{err: errors.New("away")}
	for _, test := range []struct {
		name    string
		said    map[string]uint64
		b, c    word
		without []string
		born    bool
		birth   map[string]uint64
		missing string
	}{
		{name: "all are new", said: all, b: fresh(2, all), c: fresh(3, all), born: true, birth: all},
		{name: "one is away", said: all, b: fresh(2, all), c: away, missing: "c (unreachable: away)"},
		{name: "one has not heard of another", said: all, b: fresh(2, all), c: fresh(3, map[string]uint64{"a": 1, "c": 3}), missing: "c (has not heard of the same directories)"},
		{name: "one has heard of an older directory", said: all, b: fresh(2, all), c: fresh(3, map[string]uint64{"a": 1, "b": 9, "c": 3}), missing: "c (has not heard of the same directories)"},
		{name: "born with one", said: map[string]uint64{"a": 1}, b: born(2, all, all), c: away, born: true, birth: all},
		{name: "born with one, without another", said: all, b: born(2, ab, all), c: away, born: true, birth: ab},
		{name: "never met", said: all, b: born(2, nil, map[string]uint64{"b": 2, "c": 3}), c: born(3, nil, all), missing: "b (has not met this member)"},
		{name: "met by all who are born", said: all, b: born(2, nil, all), c: born(3, nil, all), born: true},
		{name: "met by one of those who are born", said: all, b: born(2, nil, all), c: away, missing: "c (unreachable: away)"},
		{name: "without one", said: ab, b: fresh(2, ab), c: away, without: []string{"c"}, born: true, birth: ab},
		{name: "without one that was heard of before", said: all, b: fresh(2, ab), c: away, without: []string{"c"}, born: true, birth: ab},
		{name: "without one, of those who are born", said: all, b: born(2, nil, all), c: away, without: []string{"c"}, missing: "c (unreachable: away)"},
		{name: "without one that is there", said: all, b: fresh(2, all), c: fresh(3, map[string]uint64{"c": 3}), without: []string{"c"}, missing: "c (has not heard of the same directories)"},
	} {
		v := judgeBirth("a", test.said, map[string]word{"b": test.b, "c": test.c}, test.without)
		if v.err != nil || v.born != test.born || v.missing != test.missing {
			t.Errorf("%s: %+v", test.name, v)
		}
		if test.born && !maps.Equal(v.birth, test.birth) {
			t.Errorf("%s: born with %v", test.name, v.birth)
		}
	}
	if v := judgeBirth("a", all, map[string]word{"b": fresh(2, all), "c": {err: ErrForgotten}}, []string{"c"}); !errors.Is(v.err, ErrForgotten) || v.born {
		t.Errorf("forgotten: %+v", v)
	}
}
