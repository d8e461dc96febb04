package ha

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBeat(t *testing.T) {
	for readers, want := range map[int]time.Duration{0: 0, 1: 0, 2: beatPerReader, 11: longestBeat, 1000: longestBeat} {
		if got := beatOf(readers); got != want {
			t.Errorf("%d readers: %v, should be %v", readers, got, want)
		}
	}
	const every, ms = 5 * time.Millisecond, time.Millisecond
	for what, c := range map[string]struct {
		beat             beat
		now, every, want time.Duration
	}{
		"it was given something in this beat":                  {beat{sent: 101 * ms}, 102 * ms, every, 3 * ms},
		"another, which waits for the same moment":             {beat{sent: 100 * ms}, 103 * ms, every, 2 * ms},
		"it was given something in the last one, not long ago": {beat{sent: 99 * ms}, 102 * ms, every, 3 * ms},
		"after a pause":  {beat{sent: 96 * ms}, 102 * ms, every, 0},
		"there was more": {beat{sent: 101 * ms, cut: true}, 102 * ms, every, 0},
		"it is alone":    {beat{sent: 101 * ms}, 102 * ms, 0, 0},
	} {
		if got := c.beat.await(c.now, c.every); got != c.want {
			t.Errorf("%s: waits %v, should be %v", what, got, c.want)
		}
	}
}

// All who wait for the next beat wait for the same timer, and who comes after it for another one.
func TestBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b beats
		first, begin := b.after(3*time.Millisecond), time.Now()
		if b.after(2*time.Millisecond) != first {
			t.Error("two who wait for a beat have a timer each")
		}
		<-first
		if waited := time.Since(begin); waited != 3*time.Millisecond {
			t.Errorf("the beat comes after %v", waited)
		}
		next := b.after(5 * time.Millisecond)
		if next == first {
			t.Fatal("who waits for the next beat is given the last one")
		}
		<-next
	})
}
