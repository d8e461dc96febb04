package log

import (
	"io"
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

// sizedBody is a state of so many bytes.
type sizedBody int64

func (n sizedBody) WriteTo(w io.Writer) (int64, error) {
	written, err := w.Write(make([]byte, n))
	return int64(written), err
}

// TestCheckpointInterval: checkpoints of a large state are as far apart as it is large, also after it was restored, and a member that catches up has the log behind
// one of them until four times as much has come, unless there is little room on the disk.
func TestCheckpointInterval(t *testing.T) {
	const state = 1000
	c := cutCore(t, sim.NewDisk(Boot(cutMembers)))
	check := NewCheckpointer(c.store, 100, 1)
	i := uint64(1)
	apply := func(bytes int) (Place, bool) {
		t.Helper()
		i++
		return check.Due(&core.Apply{Position: at(c, i), Term: 2, Bytes: bytes}, nil)
	}
	save := func(place Place) uint64 {
		t.Helper()
		if err := check.Save(place, sizedBody(state)); err != nil {
			t.Fatal(err)
		}
		return c.store.oldest().Raft
	}
	place, due := apply(100)
	if !due {
		t.Fatal("the first one is not due: it is not known how large the state is")
	}
	save(place)
	if _, due := apply(state - 1); due {
		t.Errorf("the next one is due before as much was applied as the state is large")
	}
	if place, due = apply(1); !due {
		t.Fatal("it is not due after as much was applied as the state is large")
	}
	save(place)
	pinned := place.pos.Raft
	c.store.pinned.Store(pinned)
	for n := 1; n <= 2*pinCheckpoints; n++ {
		place, _ := apply(state)
		base := save(place)
		if held := base <= pinned; held != (n <= pinCheckpoints+1) { // what is behind it counts
			t.Errorf("%d checkpoints later the log begins behind %d, and is needed behind %d", n, base, pinned)
		}
	}
	before := i
	place, _ = apply(state)
	save(place)
	c.store.pinned.Store(before)
	check.short(true)
	place, _ = apply(state)
	if base := save(place); base <= before {
		t.Errorf("with little room on the disk the log begins behind %d, as it is needed", base)
	}
	check = NewCheckpointer(c.store, 100, 1)
	check.sized(state)
	if _, due := apply(state - 1); due {
		t.Errorf("after a start one is due before as much was applied as the state is large")
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
