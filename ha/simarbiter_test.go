package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// adopt is what a simulated arbiter does with a checkpoint that it has received.
func (m *simMember) adopt(snap *raftpb.Snapshot, size int64) {
	before := m.disk.First()
	from, err := m.checks.Adopt(snap, size)
	if err != nil {
		m.c.check.fail("%s: adopt: %v", m.name, err)
	}
	if m.disk.First() > before {
		m.c.check.adopted++
	}
	m.post(core.Want{From: from})
}

// arbitrated is two members and an arbiter, of which one member at a time is away for so long that the log which it lacks is held by
// nobody any more, while the other one goes on with the arbiter. Then that one dies, the moment before the first comes back, with all
// that only it and the arbiter have. So it is the arbiter that has to bring the one that lags up, by a checkpoint and the log
// after it, and then hand over.
func arbitrated(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery, cfg.arbiters = true, 0, 1
	cfg.checkpoint = 2 << 10
	c := newSim(cfg)
	c.bulk = 200
	arbiter := c.members[2]
	for round := range 4 {
		if !c.put(2) {
			return c
		}
		a := c.active()
		late := c.members[1-a.i]
		late.crash()
		c.put(50 + c.w.Rand.IntN(50))
		if round%2 == 1 { // the arbiter has nothing in memory
			arbiter.crash()
			arbiter.start(false)
			c.put(5)
		}
		acked := c.check.acks
		a.crash()
		late.start(false)
		if !c.await("takeover by the one that was away", func() bool { return late.tenure != nil && late.tenure.open }) {
			return c
		}
		if acked == 0 || int(late.sm.last) < len(c.check.sure)-1 {
			c.check.fail("%s is active with record %d of %d", late.name, late.sm.last, len(c.check.sure)-1)
		}
		c.put(2)
		a.start(false)
		c.w.Run(c.w.Now()+time.Second, nil)
	}
	if c.check.adopted == 0 {
		c.check.fail("the arbiter has never cut its log")
	}
	c.finishAfterTwo()
	return c
}

// TestT19_Arbitrated: with an arbiter, what was acknowledged survives the loss of either of the other two.
func TestT19_Arbitrated(t *testing.T) { seeds(t, arbitrated) }
