package log

import (
	"testing"
	"time"
)

// TestWallJumps: what the wall gets ahead counts until the loop has taken account of it; that it falls behind does not.
func TestWallJumps(t *testing.T) {
	now, at := time.Hour, 50*time.Hour
	w := wall{clock: func() time.Duration { return at }}
	pass := func(clock, onWall time.Duration) { now, at = now+clock, at+onWall }
	want := func(jump time.Duration) {
		t.Helper()
		if got := w.jumped(now, at); got != jump {
			t.Errorf("jumped by %v, want %v", got, jump)
		}
	}
	want(0) // there is nothing to compare with yet
	if w.look(now) != 0 {
		t.Error("the first look sees a jump")
	}
	pass(time.Second, time.Second)
	want(0)
	pass(time.Second, 4*time.Second)
	want(3 * time.Second)
	if got := w.look(now); got != 3*time.Second {
		t.Errorf("the loop sees %v", got)
	}
	want(0)
	pass(time.Second, -time.Hour)
	want(0)
	w.look(now)
	pass(time.Second, 2*time.Second)
	want(time.Second)
}
