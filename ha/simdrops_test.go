package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// link names the connection between two members, whoever sends.
type link struct{ lo, hi int }

// t1 runs the workload of T1 and loses one message on each of two links; n < 0 loses none. It returns
// how many messages went over each link before the active is crashed.
func t1(links [2]link, nth [2]int) (*simCluster, map[link]int) {
	cfg := defaultSim(1)
	cfg.calm, cfg.appendEvery, cfg.checkpoint = true, 0, 1
	c := newSim(cfg)
	count := map[link]int{}
	c.lose = func(from, to *simMember, _ *raftpb.Message, _ int) bool {
		l := link{min(from.i, to.i), max(from.i, to.i)}
		n := count[l]
		count[l]++
		return l == links[0] && n == nth[0] || l == links[1] && n == nth[1]
	}
	c.put(6) // a checkpoint follows each
	sent := map[link]int{}
	for l, n := range count {
		sent[l] = n
	}
	if a := c.active(); a != nil {
		a.crash()
		c.w.After(3*time.Second, func() { a.start(false) })
	}
	c.put(3)
	c.heal()
	c.put(1) // so that everybody has something to catch up with
	c.await("standby that has caught up", func() bool {
		for _, m := range c.members {
			if int(m.sm.last) != len(c.check.canon) {
				return false
			}
		}
		return true
	})
	c.check.end()
	return c, sent
}

// TestT1_ExhaustiveDrops: every pair of messages, on one link or two, is lost once.
func TestT1_ExhaustiveDrops(t *testing.T) {
	clean, sent := t1([2]link{}, [2]int{-1, -1})
	if len(clean.check.faults) > 0 {
		t.Fatal(clean.check.faults)
	}
	type loss struct {
		links [2]link
		nth   [2]int
	}
	var losses []loss
	all := []link{{0, 1}, {0, 2}, {1, 2}}
	for x := range all {
		for y := range x + 1 {
			for i := range sent[all[x]] {
				for j := range sent[all[y]] {
					if x == y && j >= i {
						break
					}
					losses = append(losses, loss{[2]link{all[x], all[y]}, [2]int{i, j}})
				}
			}
		}
	}
	abreast(len(losses), func(i int) bool {
		lost := losses[i]
		c, _ := t1(lost.links, lost.nth)
		if len(c.check.faults) > 0 {
			t.Errorf("message %d on %v and %d on %v lost: %v", lost.nth[0], lost.links[0], lost.nth[1], lost.links[1], c.check.faults)
		}
		return len(c.check.faults) == 0
	})
	t.Logf("messages per link %v: %d pairs", sent, len(losses))
}
