package core

import (
	"testing"
	"time"
)

// TestUnwritten: what is large may take its time on the disk, and what was slow lately, too, within bounds.
func TestUnwritten(t *testing.T) {
	const e = 500 * time.Millisecond
	for _, test := range []struct {
		name   string
		bytes  []int         // of the writes under way
		slow   time.Duration // the slowest answer lately
		waited time.Duration
		want   bool
	}{
		{"nothing to write", nil, 0, time.Hour, false},
		{"small, not yet", []int{100}, 0, 250 * time.Millisecond, false},
		{"small", []int{100}, 0, 251 * time.Millisecond, true},
		{"32 MiB, not yet", []int{32 << 20}, 0, 2250 * time.Millisecond, false},
		{"32 MiB", []int{32 << 20}, 0, 2251 * time.Millisecond, true},
		{"a large one that is not part of the first sync", []int{2 << 20, 32 << 20}, 0, 400 * time.Millisecond, true},
		{"a slow disk", []int{100}, 300 * time.Millisecond, 600 * time.Millisecond, false},
		{"slower than that", []int{100}, 300 * time.Millisecond, 601 * time.Millisecond, true},
		{"a very slow disk", []int{100}, 10 * time.Second, 1001 * time.Millisecond, true},
	} {
		now := time.Hour
		c := &stall{timing: timing{election: e}, writtenAt: now - test.waited}
		for _, n := range test.bytes {
			c.writes = append(c.writes, &Write{Bytes: n})
		}
		c.slowest.note(now, test.slow, time.Minute)
		if got := c.unwritten(now); got != test.want {
			t.Errorf("%s: stalled %v", test.name, got)
		}
	}
}

// TestPeak: the highest value of a while counts.
func TestPeak(t *testing.T) {
	var p peak
	p.note(10, 5, 100)
	p.note(20, 3, 100)
	if p.at(109) != 5 || p.at(110) != 0 {
		t.Errorf("%v, then %v", p.at(109), p.at(110))
	}
	if p.note(120, 3, 100); p.at(121) != 3 {
		t.Errorf("%v after the peak", p.at(121))
	}
}

// TestG8_SlowWriteIsNoStall: a disk that takes long over a large write, and gets on with it, is not one that stands still.
func TestG8_SlowWriteIsNoStall(t *testing.T) {
	l := newLagging(t)
	c := l.core
	c.stall.writes, c.stall.writtenAt = []*Write{{}}, l.now
	for range 10 {
		l.now += c.cfg.ElectionTimeout/2 - time.Millisecond
		l.step(Writing{})
		if c.stall.stalled(l.now) {
			t.Fatal("stalled, although the disk writes")
		}
	}
	if l.now += c.cfg.ElectionTimeout/2 + time.Millisecond; !c.stall.stalled(l.now) {
		t.Error("a disk that has written nothing for half an election timeout does not count as stalled")
	}
}
