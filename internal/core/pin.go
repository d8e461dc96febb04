package core

import (
	"math"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/baton-ha/baton/internal/mutant"
)

// A member that is sent a snapshot goes on with the log behind that, and while the snapshot is on its way and is being
// restored, the leader's log grows and is cut. If it were cut behind the snapshot, the member would need another one, and
// so on for ever where writes come faster than snapshots go. So a leader keeps what those who catch up will ask for. That
// has bounds: they are alive, they get on, and the log that is kept for them costs less than the snapshot.

// nothingPinned is the pin of a log of which nobody needs anything.
const NothingPinned = math.MaxUint64

// pinLog takes note of what the slowest of those needs who catch up.
func (c *Core) pinLog(now time.Duration) {
	first, _ := c.store.FirstIndex()
	need := uint64(NothingPinned)
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		has := p.Match
		switch p.State {
		case tracker.StateSnapshot:
			has = p.PendingSnapshot
		case tracker.StateProbe: // it may be restoring what was sent
			has = max(has, p.Next-1)
		}
		alive := time.Duration(c.lease.echoes[id].stamp) > now-c.cfg.ElectionTimeout
		if id != c.cfg.ID && alive && has >= first-1 && !c.progress.peers[id].told {
			need = min(need, has)
		}
	})
	if mutant.On(mutant.CutUnderSnapshot) {
		need = NothingPinned
	}
	c.pinned = need
}
