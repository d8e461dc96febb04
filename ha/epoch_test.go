package ha

import (
	"testing"
	"time"
)

// The first epoch of a cluster that is made of another is above all that any cluster can have given before, whichever backup it is made of.
func TestFirstEpoch(t *testing.T) {
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	first := firstEpoch(7, now)
	if first <= 1<<40 || first >= 1<<53 {
		t.Errorf("epoch %d", first)
	}
	later := first + epochsPerSecond - 1 // a cluster in which an epoch began each microsecond
	if again := firstEpoch(7, now.Add(time.Second)); again <= later {
		t.Errorf("%d from the same backup a second later, after %d", again, later)
	}
	for _, after := range []uint64{later, first - 1, first} {
		if got := firstEpoch(after, now); got <= after {
			t.Errorf("%d after %d", got, after)
		}
	}
	if got := firstEpoch(7, time.Unix(-5, 0)); got != 8 { // a clock that was never set
		t.Errorf("%d with a clock before 1970", got)
	}
}
