package ha

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
	"github.com/baton-ha/baton/log"
)

// This is an operator who changes the members while everything else goes wrong: adds observers, makes voters of them and
// observers of voters, removes members, and replaces those whose directory is lost.

// simMembership is what a simulated member is to the operator.
type simMembership struct {
	left    bool          // it was removed or has lost its directory, and does not come back under this id
	wiped   bool          // it has lost its directory
	arbiter bool          // its process is an arbiter's
	number  uint64        // of its directory
	readsAt time.Duration // before which its disk reads no old entries
	far     time.Duration // by which messages to it and from it take longer
}

// leading is a member that leads, nil if none does.
func (c *simCluster) leading() *simMember {
	for _, m := range c.members {
		if m.process.Up() && !m.process.Paused() && m.role.lead.leading {
			return m
		}
	}
	return nil
}

// operate does one thing, and sees to it that another follows.
func (c *simCluster) operate() {
	if c.healed {
		return
	}
	if l := c.leading(); l != nil {
		c.change(l)
	}
	c.w.After(time.Duration(c.w.Rand.ExpFloat64()*float64(c.cfg.changes)), c.operate)
}

// change asks a leader for one change of the members, and now and then sees to it that just then something goes wrong.
func (c *simCluster) change(l *simMember) {
	r := l.core.Roster()
	change := core.MemberChange{Base: r.Version}
	some := r.Members[c.w.Rand.IntN(len(r.Members))]
	voters := len(r.Voters())
	lost := slices.ContainsFunc(c.newest().Members, func(m log.Member) bool { return c.byID[m.ID].wiped })
	switch pick := c.w.Rand.IntN(6); {
	case some.ID == l.id:
		return
	case some.Kind == log.KindObserver && c.caughtUp(some, l) && pick < 4: // becomes a voter, perhaps in the place of another
		for _, old := range r.Members {
			if old.Name == some.Name && old.ID != some.ID {
				change.Remove = append(change.Remove, old.ID)
			}
		}
		some.Kind, some.Joining, some.Becomes = some.Becomes, false, log.KindVoter
		change.Put = append(change.Put, some)
	case some.Kind.Votes() && c.byID[some.ID].wiped: // its successor
		if slices.ContainsFunc(r.Members, func(m log.Member) bool { return m.Name == some.Name && m.ID != some.ID }) {
			return
		}
		change.Put = append(change.Put, c.newcomer(some.Name, true, some.Kind))
	case some.Kind == log.KindVoter && pick == 0 && voters > 3 && !lost:
		some.Kind = log.KindObserver
		change.Put = append(change.Put, some)
	case pick == 1 && (voters > 3 && !lost || some.Kind == log.KindObserver):
		change.Remove = append(change.Remove, some.ID)
	case pick == 2 && len(r.Members) < 6:
		becomes := log.KindVoter
		if c.cfg.arbiters > 0 && c.w.Chance(0.5) {
			becomes = log.KindArbiter
		}
		change.Put = append(change.Put, c.newcomer(fmt.Sprintf("n%d", len(c.members)), c.w.Chance(0.7), becomes))
	case pick == 3 && !lost && !r.Joint() && some.Kind.Votes(): // loses its directory
		m := c.byID[some.ID]
		m.crash()
		m.left, m.wiped = true, true
		return
	case pick == 4:
		some.Priority = c.w.Rand.IntN(3)
		change.Put = append(change.Put, some)
	default:
		return
	}
	l.post(core.Reconfigure{Reconfiguration: &core.Reconfiguration{Change: change}})
	if c.w.Chance(0.3) {
		c.w.After(c.w.Between(0, 10*time.Millisecond), c.misfortune1)
	}
}

// newest is the latest list that any member has in force.
func (c *simCluster) newest() (newest core.Roster) {
	for _, m := range c.members {
		if r := m.core.Roster(); r.Version > newest.Version {
			newest = r
		}
	}
	return newest
}

// caughtUp reports whether an observer has nearly all that the leader has.
func (c *simCluster) caughtUp(o log.Member, l *simMember) bool {
	m := c.byID[o.ID]
	return m.process.Up() && m.sm.last+50 >= l.sm.last && m.core.Roster().Version > 1
}

// newcomer starts a member with an empty directory, and returns how the others shall know it.
func (c *simCluster) newcomer(name string, joining bool, becomes log.Kind) log.Member {
	number := uint64(len(c.members) + 1)
	id := memberID(fmt.Sprintf("%s\x00%d", name, number))
	m := c.addMember(name, id, sim.NewDisk(core.Nobody()))
	m.number, m.arbiter = number, becomes == log.KindArbiter
	m.start(false)
	o := log.Member{ID: id, Name: name, Incarnation: number, Kind: log.KindObserver, Joining: joining}
	if joining {
		o.Becomes = becomes
	}
	return o
}

// rosterChanged is what a member does when the list changes: one that was removed stops.
func (m *simMember) rosterChanged(r core.Roster) {
	if r.Left(m.id) {
		m.after(0, m.leave)
	}
}

// leave ends a member that has been removed, for good.
func (m *simMember) leave() {
	m.crash()
	m.left = true
}

// knows reports whether a member talks to another: to all of its list, as long as it has none to whoever talks to it, and to who has
// a newer list that it is on, which is told it in the handshake: it may have been away while all others were replaced.
func (m *simMember) knows(o *simMember) bool {
	r, newer := m.core.Roster(), o.core.Roster()
	return len(r.Members) == 0 || lists(r, o.id) || newer.Version > r.Version && lists(newer, m.id)
}

// lists reports whether a list has a member, or who was and still votes.
func lists(r core.Roster, id uint64) bool {
	_, ok := r.Known(id)
	return ok
}

// hears reports whether a message is taken from another member. One that was removed is told so.
func (m *simMember) hears(o *simMember) bool {
	r := m.core.Roster()
	if r.Left(o.id) && m.c.byID[o.id] == o {
		if o.process.Up() {
			o.after(0, o.leave)
		}
		return false
	}
	return true
}

// removed reports whether a member has been removed. One that was cut off learns it when it is refused.
func (c *simCluster) removed(m *simMember) bool {
	r := c.newest()
	return r.Left(m.id)
}

// durable reports whether a record is on the disks of a majority, of those whose majority may have decided it.
func (k *checker) durable(r core.Roster, has func(m *simMember) bool) bool {
	halves := [][]log.Member{slices.DeleteFunc(slices.Clone(r.Members), func(m log.Member) bool { return !m.Kind.Votes() }), r.Outgoing}
	for _, half := range halves {
		have := 0
		for _, v := range half {
			if m := k.c.byID[v.ID]; m.wiped || has(m) {
				have++
			}
		}
		if have > len(half)/2 {
			return true
		}
	}
	return false
}

// memberChanges is a run in which members come and go.
func memberChanges(seed uint64, d time.Duration) *simCluster {
	cfg := t2(seed)
	cfg.members = 3 + int(seed%3)
	cfg.retimed = false
	cfg.drop /= 3
	cfg.changes = 300*time.Millisecond + time.Duration(seed%7)*200*time.Millisecond
	cfg.arbiters = int(seed / 3 % 3 % 2)
	c := newSim(cfg)
	c.w.Run(d, func() bool { return len(c.check.faults) > 0 })
	c.finish()
	return c
}

// TestT19_MembersComeAndGo: members are added, promoted, demoted, removed and replaced while everything that can go wrong does.
func TestT19_MembersComeAndGo(t *testing.T) {
	var versions, joined, replaced atomic.Int64
	seeds(t, func(seed uint64) *simCluster {
		c := memberChanges(seed, *simTime)
		for _, m := range c.members {
			if m.number > 0 && !m.left {
				joined.Add(1)
			}
			if m.wiped {
				replaced.Add(1)
			}
		}
		if l := c.leading(); l != nil && l.core.Roster().Version > 1 {
			versions.Add(1)
		}
		return c
	})
	t.Logf("in %d seeds the members had changed at the end; %d newcomers stayed; %d directories were lost", versions.Load(), joined.Load(), replaced.Load())
	long := time.Duration(*simSeeds)**simTime >= time.Minute
	if long && (versions.Load() == 0 || joined.Load() == 0 || replaced.Load() == 0) {
		t.Error("nothing has changed: the test shows nothing")
	}
}

// reshaped is a cluster of three to which two observers were added, in which the observers are about to take the places of the
// two voters that do not lead, and in which just then those two are cut off together, in one of four ways.
func reshaped(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery, cfg.changes = true, 0, 10000*time.Hour
	c := newSim(cfg)
	if !c.put(2) {
		return c
	}
	for _, name := range []string{"d", "e"} {
		if !c.settle("observer "+name, core.MemberChange{Put: []log.Member{c.newcomer(name, true, log.KindVoter)}}) {
			return c
		}
	}
	if !c.put(2) || !c.await("leader that everybody follows", func() bool { return c.follow() }) {
		return c
	}
	a := c.active()
	var old []*simMember
	change := core.MemberChange{}
	r := a.core.Roster()
	for _, m := range r.Members {
		switch {
		case m.ID == a.id:
		case m.Kind == log.KindVoter:
			old = append(old, c.byID[m.ID])
			change.Remove = append(change.Remove, m.ID)
		default:
			m.Kind, m.Joining = log.KindVoter, false
			change.Put = append(change.Put, m)
		}
	}
	c.w.Run(c.w.Now()+c.w.Between(0, cfg.heartbeat), nil)
	switch seed % 4 {
	case 0: // as observers they do not count
		c.cutOff(time.Hour, old...)
	case 1: // the change is asked for, and cannot be committed
		c.cutOff(time.Hour, old...)
		c.w.Run(c.w.Now()+c.w.Between(0, cfg.heartbeat), nil)
		c.ask(a, change)
	case 2: // it is committed, the old half may not know, and does not agree to the end of it
		c.ask(a, change)
		c.await("joint configuration", func() bool { r := a.core.Roster(); return r.Joint() })
		c.cutOff(time.Hour, old...)
	case 3: // it has ended; the two start again, and read late what they have missed
		c.ask(a, change)
		c.await("end of the change", func() bool { r := a.core.Roster(); return r.Version > 1 && !r.Joint() && len(r.Removed) > 0 })
		c.cutOff(time.Hour, old...)
		for _, m := range old {
			m.crash()
			m.readsAt = c.w.Now() + 5*time.Second
			m.start(false)
		}
	}
	c.w.Run(c.w.Now()+4*time.Second, func() bool { return len(c.check.faults) > 0 })
	if seed%4 < 2 && !slices.ContainsFunc(old, func(m *simMember) bool { return m.tenure != nil && m.tenure.open }) {
		c.check.fail("the two are a majority, and neither is active")
	}
	c.finishQuietly()
	return c
}

// follow reports whether an active leads and every member follows it, with all that it has.
func (c *simCluster) follow() bool {
	a := c.active()
	for _, m := range c.members {
		if a == nil || m.role.lead.leader != a.id || m.core.Roster().Version != a.core.Roster().Version || m.sm.last != a.sm.last {
			return false
		}
	}
	return true
}

// ask asks a leader for a change.
func (c *simCluster) ask(l *simMember, change core.MemberChange) {
	change.Base = l.core.Roster().Version
	l.post(core.Reconfigure{Reconfiguration: &core.Reconfiguration{Change: change}})
}

// settle asks for a change until it has been made, and everybody has it.
func (c *simCluster) settle(what string, change core.MemberChange) bool {
	made := func() bool {
		r := c.newest()
		_, ok := r.Find(change.Put[0].ID)
		return ok
	}
	for range 20 {
		if l := c.leading(); l != nil && !made() {
			c.ask(l, change)
		}
		c.w.Run(c.w.Now()+200*time.Millisecond, nil)
		if made() && c.follow() {
			return true
		}
	}
	c.check.fail("no %s in twenty tries", what)
	return false
}

// TestT19_Reshaped: whoever is left behind by a change of the members elects nobody beside the Active.
func TestT19_Reshaped(t *testing.T) { seeds(t, reshaped) }
