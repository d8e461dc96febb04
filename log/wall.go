package log

import (
	"sync/atomic"
	"time"
)

// A wall is the clock on the wall beside the lease's clock.
type wall struct {
	clock func() time.Duration // nil: there is none
	ahead atomic.Int64         // of the lease's clock, when the loop looked last
	begun atomic.Bool          // the loop has looked
}

// jumped returns by how much the wall has got ahead since the loop has looked last.
func (w *wall) jumped(now, wall time.Duration) time.Duration {
	if w.clock == nil || !w.begun.Load() {
		return 0
	}
	return max(0, wall-now-time.Duration(w.ahead.Load()))
}

// look is jumped for the loop, which acts upon it.
func (w *wall) look(now time.Duration) time.Duration {
	if w.clock == nil {
		return 0
	}
	ahead := w.clock() - now
	was := time.Duration(w.ahead.Swap(int64(ahead)))
	if !w.begun.Swap(true) {
		return 0
	}
	return max(0, ahead-was)
}

// forget makes the next look the first: without a lease nobody looks.
func (w *wall) forget() {
	if w.begun.Load() {
		w.begun.Store(false)
	}
}

// Doubt returns how much more time may have passed, since the loop has last taken account of it, than the lease's clock,
// which shows now, says. wall is what the clock on the wall shows.
func (l *Log) Doubt(now, wall time.Duration) time.Duration { return l.wall.jumped(now, wall) }
