package ha

import (
	"testing"
	"time"
)

// TestGlance: the lease's clock is shown as it is whatever the clocks do from which it is concluded, and asked only when they say nothing, or were asked long ago.
func TestGlance(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	var boot, mono, wall, took time.Duration // took: by the reading of the lease's clock
	asked := 0
	g := glances{
		boot: func() time.Duration {
			asked++
			now := boot
			boot, mono, wall = boot+took, mono+took, wall+took
			return now
		},
		now: func() (time.Duration, time.Duration) { return mono, wall },
	}
	for _, c := range []struct {
		what             string
		boot, mono, wall time.Duration // by which they move
		took             time.Duration
		asks             bool
	}{
		{what: "the first look", asks: true},
		{what: "awake", boot: 5 * ms, mono: 5 * ms, wall: 5 * ms},
		{what: "the wall goes a little otherwise", boot: ms, mono: ms, wall: ms + 300*us},
		{what: "long after the last look", boot: 9 * ms, mono: 9 * ms, wall: 9 * ms, asks: true},
		{what: "a sleep", boot: time.Hour, mono: us, wall: time.Hour, asks: true},
		{what: "a short sleep", boot: 3 * ms, mono: us, wall: 3 * ms, asks: true},
		{what: "the wall is set ahead", boot: ms, mono: ms, wall: time.Hour, asks: true},
		{what: "the wall is set back", boot: ms, mono: ms, wall: -time.Hour, asks: true},
		{what: "a sleep that was counted by the lease's clock alone, and a while", boot: time.Hour, mono: 10 * ms, wall: 10 * ms, asks: true},
		{what: "a look that takes long", boot: 10 * ms, mono: 10 * ms, wall: 10 * ms, took: ms, asks: true},
		{what: "after it", boot: us, mono: us, wall: us, asks: true},
		{what: "after that", boot: us, mono: us, wall: us},
	} {
		boot, mono, wall, took, asked = boot+c.boot, mono+c.mono, wall+c.wall, c.took, 0
		at := boot
		if got, onWall := g.look(); got < at || got > at+glanceTook || onWall != wall-took {
			t.Errorf("%s: %v, %v, should be %v, %v", c.what, got, onWall, at, wall)
		}
		if (asked > 0) != c.asks {
			t.Errorf("%s: the clock was asked: %t", c.what, asked > 0)
		}
	}
}
