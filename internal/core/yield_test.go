package core

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/yield"
)

// TestG8_SnapshotsYield: while a snapshot is on its way it has a rate, as long as somebody appends; it grows where batches do not suffer, and falls
// where they do.
func TestG8_SnapshotsYield(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	const at = laggingEntries / 2
	pos, err := l.core.pos, error(nil)
	for _, e := range l.held.ents[pos.Raft-l.held.base : at-l.held.base] {
		if _, err = pos.Next(e); err != nil {
			t.Fatal(err)
		}
	}
	l.held.ents, l.held.base = l.held.ents[at-l.held.base:], at
	l.held.snap = NewSnapshot(2, Checkpoint{Position: pos, Base: Base{Raft: at, Term: 2, Index: pos.Index}, State: StateOf})
	rate := func(d time.Duration) int64 { return l.core.SnapshotRate(l.now + d) }
	batches := func(n int, took time.Duration) {
		for range n {
			l.core.paced(l.now, took, false)
		}
	}
	batches(200, time.Millisecond)
	if got := rate(0); got != 0 {
		t.Errorf("nothing is sent, at %d bytes a second", got)
	}
	l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
	refused := func(index uint64) {
		l.step(Receive{Message: &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(3)),
			Index: &index, Reject: new(true), RejectHint: new(uint64(1)), LogTerm: new(uint64(1))}, At: l.now})
	}
	for _, m := range l.sent {
		refused(m.GetIndex())
	}
	if got := rate(0); got != yield.Slowest {
		t.Errorf("it begins at %d bytes a second", got)
	}
	batches(1000, time.Millisecond)
	fast := rate(0)
	if fast < 10*yield.Slowest {
		t.Errorf("where batches do not suffer: %d bytes a second", fast)
	}
	if got := rate(liveFor + 1); got != 0 {
		t.Errorf("nobody appends any more: %d bytes a second", got)
	}
	batches(200, 3*time.Millisecond)
	if got := rate(0); got > fast/2 {
		t.Errorf("where they suffer: %d bytes a second, and %d before", got, fast)
	}
	if calm := l.core.pace.strain.Calm; calm > 11*time.Millisecond/10 {
		t.Errorf("what they take beside it is taken for what they take without: %v", calm)
	}
	l.now += 10 * time.Second
	l.core.pace.committedBytes += 1 << 30
	batches(200, 3*time.Millisecond)
	if got, least := rate(0), int64(1<<30)/11; got < least {
		t.Errorf("beside a GiB in ten seconds: %d bytes a second, want %d: the log behind it outgrows it", got, least)
	}
	l.step(SnapshotSent{Message: &raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: new(uint64(1)), To: new(uint64(3)), Term: new(uint64(3)), Snapshot: l.held.snap}, OK: true})
	l.now += time.Second
	l.step(Tick{})
	batches(1, time.Millisecond)
	if got := rate(0); got != 0 {
		t.Errorf("it is there: %d bytes a second", got)
	}
}
