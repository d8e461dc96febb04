package ha

import (
	"testing"
	"time"
)

func TestBeat(t *testing.T) {
	for tails, want := range map[int]time.Duration{0: 0, 1: 0, 2: beatPerTail, 11: longestBeat, 1000: longestBeat} {
		if got := beatOf(tails); got != want {
			t.Errorf("%d tails: %v, should be %v", tails, got, want)
		}
	}
	const every, ms = 5 * time.Millisecond, time.Millisecond
	for what, c := range map[string]struct {
		beat      beat
		now, want time.Duration
		behind    bool
		every     time.Duration
	}{
		"it has had everything, and was given something in this beat": {beat{live: true, sent: 101 * ms}, 102 * ms, 3 * ms, true, every},
		"the same of another, which waits for the same moment":        {beat{live: true, sent: 100 * ms}, 103 * ms, 2 * ms, true, every},
		"something after a pause":                                     {beat{live: true, sent: 96 * ms}, 102 * ms, 0, true, every},
		"it is behind":                                                {beat{sent: 101 * ms}, 102 * ms, 0, true, every},
		"there is nothing":                                            {beat{live: true, sent: 101 * ms}, 102 * ms, 0, false, every},
		"it is alone":                                                 {beat{live: true, sent: 101 * ms}, 102 * ms, 0, true, 0},
	} {
		if got := c.beat.await(c.now, c.every, c.behind); got != c.want {
			t.Errorf("%s: waits %v, should be %v", what, got, c.want)
		}
		if c.beat.live == c.behind {
			t.Errorf("%s: live %v", what, c.beat.live)
		}
	}
}
