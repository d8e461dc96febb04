package core

import (
	"testing"
	"time"
)

// TestG8_SlowWriteIsNoStall: a disk that takes long over a large write, and gets on with it, is not one that stands still.
func TestG8_SlowWriteIsNoStall(t *testing.T) {
	l := newLagging(t)
	c := l.core
	c.writes, c.writtenAt = []*Write{{}}, l.now
	for range 10 {
		l.now += c.cfg.ElectionTimeout/2 - time.Millisecond
		l.step(Writing{})
		if c.stalled(l.now) {
			t.Fatal("stalled, although the disk writes")
		}
	}
	if l.now += c.cfg.ElectionTimeout/2 + time.Millisecond; !c.stalled(l.now) {
		t.Error("a disk that has written nothing for half an election timeout does not count as stalled")
	}
}
