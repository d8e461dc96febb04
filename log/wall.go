package log

import (
	"sync/atomic"
	"time"
)

// A wall is the clock on the wall beside the lease's clock.
type wall struct {
	clock func() time.Duration // nil: there is none
	slack time.Duration        // by which it may get ahead before the loop takes account of it
	ahead atomic.Int64         // of the lease's clock, as far as the loop has taken account of it
	begun atomic.Bool          // the loop has looked
}

// wallSlack is the part of a heartbeat interval by which the wall may get ahead before the loop takes account of it, and then of all of it: clocks are slewed, by up to a
// twelfth, and no lease comes of an echo that is on its way in that moment. Every lease has a heartbeat interval to spare.
const wallSlack = 4

// jumped returns by how much the wall has got ahead since the loop has taken account of it.
func (w *wall) jumped(now, wall time.Duration) time.Duration {
	if w.clock == nil || !w.begun.Load() {
		return 0
	}
	return max(0, wall-now-time.Duration(w.ahead.Load()))
}

// look is jumped for the loop, which first acts upon it, and then says so (settle): whoever asks in between is told of the jump, and
// perhaps of what has come of it already, but never of neither. read is by how much the wall was ahead when the clocks were read just now, first the
// lease's, which now reads. Whoever does not get to run between two readings sees a jump that is none, and never misses one: so what looks like a jump
// is read again.
func (w *wall) look(read time.Duration, now func() time.Duration) (by, ahead time.Duration) {
	if w.clock == nil {
		return 0, 0
	}
	ahead = read
	if !w.begun.Load() || ahead < time.Duration(w.ahead.Load()) {
		w.settle(ahead)
		return 0, ahead
	}
	was := time.Duration(w.ahead.Load())
	for i := 0; i < 2 && ahead-was > w.slack; i++ {
		at := now()
		ahead = min(ahead, w.clock()-at)
	}
	if by = ahead - was; by <= w.slack {
		return 0, ahead
	}
	return by, ahead
}

// settle says that account was taken of a jump.
func (w *wall) settle(ahead time.Duration) {
	w.ahead.Store(int64(ahead))
	w.begun.Store(true)
}

// forget makes the next look the first: who asks nobody for promises does not look.
func (w *wall) forget() {
	if w.begun.Load() {
		w.begun.Store(false)
	}
}

// Doubt returns how much more time may have passed, since the loop has last taken account of it, than the lease's clock,
// which shows now, says. wall is what the clock on the wall shows.
func (l *Log) Doubt(now, wall time.Duration) time.Duration { return l.wall.jumped(now, wall) }

// Doubt is [Log.Doubt].
func (l *Loop) Doubt(now, wall time.Duration) time.Duration { return l.d.wall.jumped(now, wall) }
