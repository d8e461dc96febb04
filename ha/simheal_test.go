package ha

import (
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This is a cluster whose members come back by themselves when their directories are lost, while other processes use the names of
// members that have lost nothing: those are well, or down, or cut off for a while.

// simHealing is what the leaders do about that, by the product's own plans, and what is thought of it.
type simHealing struct {
	c        *simCluster
	waits    []*simMember             // with empty directories, for the places of those who have or had their names
	heard    map[[2]int]time.Duration // when a message of one last came to another
	replaced int
	refused  int
}

// silence is how long nothing must have been heard of a member that is replaced.
func (h *simHealing) silence() time.Duration { return 7 * h.c.cfg.election / 2 }

// since is how long ago a member last heard of another.
func (h *simHealing) since(to, from *simMember) time.Duration {
	return h.c.w.Now() - h.heard[[2]int{from.i, to.i}]
}

// ground is what a leader plans from.
func (m *simMember) ground() ground {
	return ground{list: &roster{Roster: m.core.Roster()}, view: m.core.View(m.local()), leading: true, self: m.id, now: m.local(), heartbeat: m.c.cfg.heartbeat}
}

// mend is what a leader does now and then.
func (h *simHealing) mend() {
	if h.c.healed {
		return
	}
	if l := h.c.leading(); l != nil {
		h.mendBy(l)
	}
	h.c.w.After(h.c.cfg.election/2, h.mend)
}

func (h *simHealing) mendBy(l *simMember) {
	g := l.ground()
	if g.list.Joint() {
		return
	}
	for _, o := range g.list.Members {
		if !o.Joining {
			continue
		}
		if change, err := g.promote(o.Name); err == nil && len(change.Put) > 0 {
			if m := h.c.byID[o.ID]; h.since(l, m) > 2*time.Second || m.core.Roster().Version == 0 {
				h.c.check.fail("%s gets the vote of what it was, has not been heard for %v and has the list %d", o.Name, h.since(l, m), m.core.Roster().Version)
			}
			h.c.ask(l, change)
			return
		}
	}
	for _, w := range h.waits {
		if !w.process.Up() || h.c.cut[l.i][w.i] {
			continue
		}
		lost := true
		for _, o := range g.list.Members {
			lost = lost && (o.Name != w.name || h.since(l, h.c.byID[o.ID]) > h.silence())
		}
		change, err := g.heal(transport.Hello{Name: w.name, ID: w.id, Incarnation: w.number, Joining: true, Heal: true}, lost)
		if err != nil {
			h.refused++
			continue
		}
		if len(change.Put) > 0 {
			h.judge(l, w, g.list)
			h.replaced++
			h.c.ask(l, change)
			if h.c.w.Chance(0.5) { // and stops as soon as it is on its way
				h.c.w.After(h.c.w.Between(0, 10*time.Millisecond), w.crash)
				h.c.w.After(h.c.w.Between(time.Second, 4*time.Second), func() { w.start(false) })
			}
			return
		}
	}
}

// judge says whether a member may be replaced by itself.
func (h *simHealing) judge(l, w *simMember, list *roster) {
	well, voters := 0, list.Voters()
	for _, o := range list.Members {
		since := h.since(l, h.c.byID[o.ID])
		switch {
		case o.Name == w.name && since < 2*h.c.cfg.election:
			h.c.check.fail("%s is replaced, and was heard %v ago", o.Name, since)
		case o.Name != w.name && o.Joining:
			h.c.check.fail("%s is replaced while %s is on its way", w.name, o.Name)
		case o.Name != w.name && o.Kind.Votes() && (o.ID == l.id || since < time.Second):
			well++
		}
	}
	if well <= len(voters)/2 {
		h.c.check.fail("%s is replaced, and of %d voters only %d others are well", w.name, len(voters), well)
	}
}

// rival starts a process with an empty directory that waits for the place of a member.
func (h *simHealing) rival(name string) {
	o := h.c.newcomer(name, true, log.KindVoter)
	h.waits = append(h.waits, h.c.byID[o.ID])
}

// misfortune does something to one of the voters.
func (h *simHealing) misfortune() {
	c, w := h.c, h.c.w
	r := c.newest()
	some := r.Members[w.Rand.IntN(len(r.Members))]
	m := c.byID[some.ID]
	lasts := w.Between(0, 4*time.Second)
	lost := 0
	for _, o := range r.Members {
		if c.byID[o.ID].wiped || !c.byID[o.ID].process.Up() {
			lost++
		}
	}
	switch pick := w.Rand.IntN(5); {
	case m.left:
	case pick == 0 && lost < len(r.Voters())/2 && !r.Joint() && some.Kind.Votes(): // loses its directory, and comes back without
		m.crash()
		m.left, m.wiped = true, true
		w.After(w.Between(0, time.Second), func() { h.rival(some.Name) })
	case pick == 1 && lost < len(r.Voters())/2: // is down for a while, and a second process uses its name
		m.crash()
		w.After(lasts, func() { m.start(false) })
		h.rival(some.Name)
	case pick == 2: // is cut off
		c.cutOff(lasts, m)
		h.rival(some.Name)
	case pick == 3 && some.Joining: // is on its way, and stops
		m.crash()
		w.After(lasts, func() { m.start(false) })
	default: // is well
		h.rival(some.Name)
	}
}

// healing is a run of it.
func healing(seed uint64) *simCluster {
	c, _ := healed(seed)
	return c
}

func healed(seed uint64) (*simCluster, *simHealing) {
	cfg := defaultSim(seed)
	cfg.members, cfg.calm, cfg.changes = 3+2*int(seed%2), true, 10000*time.Hour
	c := newSim(cfg)
	h := &simHealing{c: c, heard: map[[2]int]time.Duration{}}
	c.lose = func(from, to *simMember, _ *raftpb.Message, _ int) bool {
		if !c.cut[from.i][to.i] && to.process.Up() {
			h.heard[[2]int{from.i, to.i}] = c.w.Now()
		}
		return false
	}
	h.mend()
	for end := 12 * time.Second; c.w.Now() < end && len(c.check.faults) == 0; {
		c.w.Run(c.w.Now()+c.w.Between(300*time.Millisecond, 1500*time.Millisecond), func() bool { return len(c.check.faults) > 0 })
		h.misfortune()
		// Of those that wait a few are enough.
		for len(h.waits) > 4 {
			if r := c.newest(); !lists(r, h.waits[0].id) {
				h.waits[0].leave()
			}
			h.waits = h.waits[1:]
		}
	}
	c.finish()
	return c, h
}

// TestT19_Heal: members that have lost their directories come back by themselves, one at a time, and only such: none that is heard, none while the
// others are no majority, and none votes before it has what the others have.
func TestT19_Heal(t *testing.T) {
	var replaced, refused atomic.Int64
	seeds(t, func(seed uint64) *simCluster {
		c, h := healed(seed)
		replaced.Add(int64(h.replaced))
		refused.Add(int64(h.refused))
		return c
	})
	t.Logf("%d were replaced by themselves, %d times it was refused", replaced.Load(), refused.Load())
	if replaced.Load() == 0 || refused.Load() == 0 {
		t.Error("nobody was replaced, or refused: the test shows nothing")
	}
}
