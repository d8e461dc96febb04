package log

import (
	"testing"
	"time"
)

// TestWallJumps: what the wall gets ahead counts until the loop has taken account of it; that it falls behind does not.
func TestWallJumps(t *testing.T) {
	now, at := time.Hour, 50*time.Hour
	const slack = 10 * time.Millisecond
	w := wall{clock: func() time.Duration { return at }, slack: slack}
	pass := func(clock, onWall time.Duration) { now, at = now+clock, at+onWall }
	want := func(jump time.Duration) {
		t.Helper()
		if got := w.jumped(now, at); got != jump {
			t.Errorf("jumped by %v, want %v", got, jump)
		}
	}
	clock := func() time.Duration { return now }
	look := func(jump time.Duration) {
		t.Helper()
		at := clock()
		by, ahead := w.look(w.clock()-at, clock)
		if by != jump {
			t.Errorf("the loop sees %v, want %v", by, jump)
		}
		if by > 0 {
			want(jump) // for it has not acted yet
			w.settle(ahead)
		}
	}
	want(0) // there is nothing to compare with yet
	look(0)
	pass(time.Second, time.Second)
	want(0)
	pass(time.Second, 4*time.Second)
	want(3 * time.Second)
	look(3 * time.Second)
	want(0)
	pass(time.Second, -time.Hour)
	want(0)
	look(0)
	pass(time.Second, 2*time.Second)
	want(time.Second)
	look(time.Second)

	// It is slewed: as soon as that is something, it counts whole.
	for range 4 {
		pass(time.Second, time.Second+slack/4)
		look(0)
	}
	pass(time.Second, time.Second+slack/4)
	look(slack + slack/4)

	// The loop does not get to run between the two readings.
	right := w.clock
	w.clock = func() time.Duration {
		w.clock = right
		pass(2*slack, 2*slack)
		return at
	}
	look(0)
}
