package log

import (
	"io"
	"strings"
	"testing"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
)

// TestArbiterTakesCheckpoints: an arbiter wants a checkpoint when there is enough log, takes what is staged as its own, keeps the log
// that is to be kept behind it, and starts from it and reads that log after a restart.
func TestArbiterTakesCheckpoints(t *testing.T) {
	disk := sim.NewDisk(Boot(cutMembers))
	c := cutCore(t, disk)
	check := NewCheckpointer(c.store, 400, 200)
	wanted := uint64(0)
	for i := uint64(3); i <= 80; i++ {
		if from, due := check.Want(&core.Apply{Position: at(c, i), Term: 2, Bytes: 10}); due {
			wanted += from
		}
	}
	if wanted != 2 {
		t.Fatalf("wants one from %d on, and has one at 1", wanted)
	}
	adopt := func(i uint64, size int64) uint64 {
		t.Helper()
		snap := core.NewSnapshot(2, core.Checkpoint{Version: core.CheckpointVersion, Position: at(c, i), Base: core.Base{Raft: i, Term: 2, Index: i - 2},
			State: core.StateOf, Machine: "theirs"})
		if err := disk.StageSnapshot(snap, strings.NewReader("state")); err != nil {
			t.Fatal(err)
		}
		from, err := check.Adopt(snap, size)
		if err != nil {
			t.Fatal(err)
		}
		return from
	}
	if from := adopt(c.store.pos.Raft+1, 5); from != 2 {
		t.Errorf("one that is not committed here: wants from %d", from)
	}
	if from := adopt(70, 5000); from != 0 {
		t.Errorf("wants from %d", from)
	}
	snap, body, _, err := disk.OpenSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(body)
	cp, err := core.ParseCheckpoint(snap)
	if err != nil || string(b) != "state" || cp.Position.Raft != 70 || cp.Position.Index != 68 || cp.State != core.StateOf || cp.Machine != "theirs" {
		t.Errorf("%+v with %q, %v", cp, b, err)
	}
	if base := c.store.oldest(); base != cp.Base || base.Raft < 40 || base.Raft > 50 || disk.First() != base.Raft+1 {
		t.Errorf("the log begins behind %+v, on disk at %d, in the header behind %+v", base, disk.First(), cp.Base)
	}
	if from := adopt(60, 5); from != 0 || c.store.latest().GetMetadata().GetIndex() != 70 {
		t.Errorf("an older one: wants from %d", from)
	}
	// One of 5,000 bytes is not wanted again before there is as much log.
	for i := uint64(81); i <= 100; i++ {
		if from, due := check.Want(&core.Apply{Position: at(c, i), Term: 2, Bytes: 200}); due {
			t.Fatalf("entry %d: wants from %d", i, from)
		}
	}
	if from, due := check.Want(&core.Apply{Position: at(c, 101), Term: 2, Bytes: 1000}); !due || from != 71 {
		t.Errorf("after as much log: %d %v", from, due)
	}
	c = openCut(t, disk, 100, 0)
	if c.store.oldest() != cp.Base {
		t.Errorf("after a restart the log begins behind %+v", c.store.oldest())
	}
	if e, err := firstOf(c, cp.Base.Index+1); err != nil || e.Index != cp.Base.Index+1 || e.Epoch != 1 {
		t.Error(e, err)
	}
	// What raft installs takes the place of all of it.
	c = openCut(t, disk, 100, 0)
	check = NewCheckpointer(c.store, 400, 200)
	install(t, c, leaders(t, c, 500))
	if from, due := check.Want(&core.Apply{Snapshot: c.store.latest(), Position: at(c, 500), Term: 2}); from != 0 || !due {
		t.Errorf("after a snapshot: wants from %d", from)
	}
}
