package log

import (
	"io"
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

// pinCheckpoints is how many times CheckpointBytes of log, and as many bytes again as a snapshot has, are kept behind the
// rest for members that catch up.
const pinCheckpoints = 4

// nothingPinned is the pin of a log of which nobody needs anything.
const nothingPinned = math.MaxUint64

// pinLog takes note of what the slowest of those needs who catch up.
func (c *Core) pinLog(now time.Duration) {
	base, need := c.store.oldest().Raft, uint64(nothingPinned)
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		has := p.Match
		switch p.State {
		case tracker.StateSnapshot:
			has = p.PendingSnapshot
		case tracker.StateProbe: // it may be restoring what was sent
			has = max(has, p.Next-1)
		}
		alive := time.Duration(c.lease.echoes[id].stamp) > now-c.cfg.ElectionTimeout
		if id != c.cfg.ID && alive && has >= base && !c.progress.peers[id].told {
			need = min(need, has)
		}
	})
	if mutant.On(mutant.CutUnderSnapshot) {
		need = nothingPinned
	}
	c.store.pin(need)
}

// pin keeps the log behind a raft index.
func (w *window) pin(raftIndex uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pinned = raftIndex
}

// mayCut reports whether the log may be cut behind a raft index for all who catch up.
func (w *window) mayCut(raftIndex uint64) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return raftIndex <= w.pinned
}

// counted counts the bytes of a body.
type counted struct {
	io.WriterTo
	n int64
}

// WriteTo implements io.WriterTo.
func (c *counted) WriteTo(w io.Writer) (int64, error) {
	n, err := c.WriterTo.WriteTo(w)
	c.n = max(n, 0)
	return n, err
}
