package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// votesForgotten lets a voter crash in the moment in which its vote leaves. Who was elected by it is cut off, and the former active is back and can be elected
// by that voter, too, in the very same term if that has forgotten its vote.
func votesForgotten(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm = true
	c := newSim(cfg)
	for range 3 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		a := c.active()
		voted := false
		c.lose = func(v, x *simMember, m *raftpb.Message, _ int) bool {
			if m.GetType() != raftpb.MsgVoteResp || m.GetReject() || voted {
				return false
			}
			voted = true
			c.w.After(0, func() {
				v.crash()
				c.w.After(c.w.Between(0, cfg.delay), func() { v.start(false) })
			})
			c.w.After(cfg.delay, func() { // the vote has arrived
				c.cutOff(time.Hour, x)
				a.start(false)
			})
			return false
		}
		a.crash()
		c.w.Run(c.w.Now()+8*cfg.election, nil)
		c.lose = nil
		a.start(false)
		for i := range c.cut {
			clear(c.cut[i])
		}
		c.w.Run(c.w.Now()+2*cfg.election, nil)
	}
	c.finish()
	return c
}

// TestG1_Votes: a member that has voted knows it after a crash, so nobody else is elected in that term.
func TestG1_Votes(t *testing.T) { seeds(t, votesForgotten) }
