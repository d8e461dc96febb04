package log

import (
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
)

// TestRetainFor: log is kept until it is old enough, unless there is little room on the disk; then its size alone counts. What
// was there before the start counts as old.
func TestRetainFor(t *testing.T) {
	c := cutCore(t, sim.NewDisk(Boot(cutMembers)))
	now := 100 * time.Hour
	check := NewCheckpointer(c.store, 1, 1)
	check.keep(time.Hour, func() time.Duration { return now })
	save := func(i uint64) uint64 {
		t.Helper()
		place, due := check.Due(&core.Apply{Position: at(c, i), Term: 2, Bytes: 100}, nil)
		if !due {
			t.Fatal("not due")
		}
		if err := check.Save(place, nil); err != nil {
			t.Fatal(err)
		}
		return c.store.oldest().Raft
	}
	for _, step := range []struct {
		at, base uint64
		after    time.Duration
		scarce   bool
	}{
		{at: 10, base: 1},
		{at: 20, base: 1, after: 30 * time.Minute},
		{at: 30, base: 1, after: 29 * time.Minute},
		{at: 40, base: 10, after: time.Minute},      // what is before 10 is an hour old
		{at: 50, base: 20, after: 40 * time.Minute}, // 20, of which that is true, and not yet 30
		{at: 60, base: 20},
		{at: 70, base: 60, scarce: true},
		{at: 80, base: 60},
		{at: 90, base: 80, after: 2 * time.Hour},
	} {
		now += step.after
		check.short(step.scarce)
		if got := save(step.at); got != step.base {
			t.Errorf("a checkpoint at %d, %v later: the log begins behind %d, want %d", step.at, step.after, got, step.base)
		}
	}
}

// TestRetainFor_Candidates: however long log is kept, the places at which it may be cut are few, in order, and reach back to its beginning.
func TestRetainFor_Candidates(t *testing.T) {
	c := cutCore(t, sim.NewDisk(Boot(cutMembers)))
	now := time.Duration(0)
	check := NewCheckpointer(c.store, 1, 1)
	check.keep(time.Hour, func() time.Duration { return now })
	for i := range int64(10 * maxCandidates) {
		now++
		check.candidateLocked(cutPoint{base: core.Base{Raft: uint64(i) + 2}, total: i})
		if n := len(check.made); n > maxCandidates {
			t.Fatalf("%d candidates", n)
		}
	}
	if first := check.made[0].base; first != c.store.oldest() {
		t.Errorf("the first is %+v", first)
	}
	for i, p := range check.made[1:] {
		if before := check.made[i]; p.base.Raft <= before.base.Raft || p.total < before.total || p.at < before.at {
			t.Fatalf("%+v follows %+v", p, before)
		}
	}
}
