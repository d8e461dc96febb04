package ha

import (
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/log"
)

// prudent is a cluster of three and an observer that has lost one voter for good, and whose operator asks at once for what would cost it
// the majority: that the other voter is removed, or that the observer gets a vote, which is gone too. Then he does what helps: he removes
// the one that is lost.
func prudent(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery, cfg.changes = true, 0, 10000*time.Hour
	c := newSim(cfg)
	if !c.put(2) || !c.settle("observer", core.MemberChange{Put: []log.Member{c.newcomer("d", true, log.KindVoter)}}) ||
		!c.await("leader that everybody follows", func() bool { return c.follow() }) {
		return c
	}
	a := c.active()
	var others []*simMember
	for _, m := range c.members {
		if m != a {
			others = append(others, m)
		}
	}
	lost, stays, observer := others[0], others[1], others[2]
	gone := []*simMember{lost}
	if seed%2 == 1 {
		gone = append(gone, observer)
	}
	for _, m := range gone {
		m.crash()
		m.left = true
	}
	c.w.Run(c.w.Now()+(silentBeats+2)*cfg.heartbeat+c.w.Between(0, cfg.heartbeat), nil) // it is seen by then
	if c.leading() != a {
		c.check.fail("the leader has lost its role, with two of three there")
		return c
	}
	unwise := func(g ground) (log.MemberChange, error) { return g.remove(stays.name) }
	if seed%2 == 1 {
		unwise = func(g ground) (log.MemberChange, error) { return g.promote(observer.name) }
	}
	for _, plan := range []func(g ground) (log.MemberChange, error){unwise, func(g ground) (log.MemberChange, error) { return g.remove(lost.name) }} {
		g := a.ground()
		change, err := plan(g)
		if err == nil {
			g.complete(&change)
			a.post(core.Reconfigure{Reconfiguration: &core.Reconfiguration{Change: change}})
		}
		c.w.Run(c.w.Now()+time.Second, nil)
	}
	if c.put(2) && slices.ContainsFunc(c.newest().Members, func(m log.Member) bool { return m.ID == lost.id }) {
		c.check.fail("%s was not removed", lost.name)
	}
	return c
}

// TestT19_Prudent: a leader makes no change that would cost the majority, and makes the one that helps.
func TestT19_Prudent(t *testing.T) { seeds(t, prudent) }
