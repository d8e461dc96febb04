package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// restarted lets members start anew just before the role would go to one of them: they keep what their last processes may have
// promised, and cannot take over, but what those have answered is young enough to be believed. The Active learns before it chooses that
// messages were lost, or after that, or not at all.
func restarted(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm = true
	c := newSim(cfg)
	for range 4 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(4*cfg.election, 5*cfg.election), nil) // nobody has just started any more
		a := c.active()
		if a == nil {
			c.check.fail("nothing is wrong, and nobody is active")
			return c
		}
		when, all := c.w.Rand.IntN(3), c.w.Chance(0.7)
		for _, o := range c.members {
			if o == a || !all && c.w.Chance(0.5) {
				continue
			}
			if o.process.Up() {
				o.die()
			}
			o.start(false)
			switch when {
			case 1: // before
				o.anew = true
				a.post(core.Unreachable{ID: o.id})
			case 2: // after
				c.lose = func(_, to *simMember, m *raftpb.Message, _ int) bool {
					if m.GetType() != raftpb.MsgTimeoutNow || to == a || to.role.view.Guard == 0 {
						return false
					}
					a.after(c.w.Between(0, 5*time.Millisecond), func() { a.post(core.Unreachable{ID: to.id}) })
					return true
				}
			}
		}
		c.w.Run(c.w.Now()+c.w.Between(0, cfg.heartbeat/2), nil)
		a.post(asked(false))
		c.w.Run(c.w.Now()+cfg.election/2, nil)
		if c.active() == nil {
			c.check.fail("nobody is active half an election timeout after %s was asked to hand over, when others had just started", a.name)
		}
		for _, o := range c.members {
			o.anew = false
		}
		c.lose = nil
		if len(c.check.faults) > 0 {
			return c
		}
	}
	c.finish()
	return c
}

// TestT7_Restarted: a hand-over that comes when others have just started goes past them, or is over at once.
func TestT7_Restarted(t *testing.T) { seeds(t, restarted) }
