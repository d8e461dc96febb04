package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// This file simulates networks on which heartbeats pass and entries do not.

// swallow loses entries on links, and everything else passes.
func (c *simCluster) swallow(on func(from, to *simMember) bool) {
	c.lose = func(from, to *simMember, m *raftpb.Message, _ int) bool {
		return m.GetType() == raftpb.MsgApp && len(m.GetEntries()) > 0 && on(from, to)
	}
}

// stuck lets what an active appends get lost, on the way to both others, or in both directions, again and again.
func stuck(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm = true
	c := newSim(cfg)
	for round := range 3 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(0, 4*cfg.election), nil)
		a := c.active()
		if a == nil {
			continue
		}
		both := c.w.Chance(0.5)
		c.swallow(func(from, to *simMember) bool { return from == a || both && to == a })
		began, acks := c.w.Now(), c.check.acks
		c.await("other active that gets on", func() bool { return c.active() != a && c.check.acks > acks+10 })
		// It waits longer each time that it gives way.
		if took := c.w.Now() - began; took > 12*cfg.election<<round && len(c.check.faults) == 0 {
			c.check.fail("it took %v until somebody got on", took)
		}
		c.lose = nil
	}
	c.finish()
	return c
}

// TestG8_EntriesSwallowed: when heartbeats of the active pass and its entries do not, another takes over that can do
// better, and no acknowledged record is lost.
func TestG8_EntriesSwallowed(t *testing.T) { seeds(t, stuck) }

// TestG8_NobodyDoesBetter: when no member's entries pass, the role does not wander about faster and faster, the member that
// leads says so, and all goes on when entries pass.
func TestG8_NobodyDoesBetter(t *testing.T) {
	cfg := defaultSim(1)
	cfg.calm = true
	c := newSim(cfg)
	c.await("active", func() bool { return c.active() != nil })
	c.w.Run(c.w.Now()+time.Second, nil)
	c.swallow(func(_, _ *simMember) bool { return true })
	terms := func() (highest uint64) {
		for _, m := range c.members {
			highest = max(highest, m.role.lead.term)
		}
		return highest
	}
	first := terms()
	c.w.Run(c.w.Now()+time.Minute, nil)
	second := terms()
	c.w.Run(c.w.Now()+3*time.Minute, nil)
	third := terms()
	if second-first > 12 || third-second > 12 {
		t.Errorf("%d leaders in the first minute, %d in the three after it", second-first, third-second)
	}
	told := 0
	for _, m := range c.members {
		told += len(m.problems)
	}
	if told == 0 {
		t.Error("nobody says that nothing is committed")
	}
	c.lose = nil
	if c.finish(); len(c.check.faults) > 0 {
		t.Error(c.check.faults)
	}
	c.w.Run(c.w.Now()+time.Second, nil)
	for _, m := range c.members {
		if len(m.problems) > 0 {
			t.Errorf("%s still has problems %v", m.name, m.problems)
		}
	}
}

// TestStuckIsRepeatable: a seed is the same run each time, also where an active gives way: raft, which would campaign at a time of its own chance,
// has no clock as a follower.
func TestStuckIsRepeatable(t *testing.T) {
	again := []uint64{2, 3, 5, 9}
	hashes := make([][4]uint64, len(again))
	abreast(len(again), func(i int) bool {
		for j := range hashes[i] {
			hashes[i][j] = stuck(again[i]).w.Hash()
		}
		return true
	})
	for i, h := range hashes {
		if h[0] != h[1] || h[0] != h[2] || h[0] != h[3] {
			t.Errorf("seed %d: %016x", again[i], h)
		}
	}
}
