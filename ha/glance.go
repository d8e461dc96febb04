package ha

import (
	"sync/atomic"
	"time"
)

// glances read the lease's clock for those who ask more often than a system call is worth (600 ns, and 100 for both of Go's clocks). The monotonic clock goes as
// the lease's does while the machine is awake; when it sleeps, the clock on the wall gets ahead of the monotonic one by as much as the lease's does.
// So as long as those two agree, the lease's has moved as they have. Whoever would set the wall back by just what the machine has slept has glanceFor
// for it: then the clock itself is read again.
//
// Invariant: what is returned is never before what the clock shows, and at most glanceTook after it.
type glances struct {
	boot func() time.Duration              // the lease's clock
	now  func() (mono, wall time.Duration) // the others
	last atomic.Pointer[sight]
}

// A sight is what all three showed at a moment.
type sight struct{ boot, mono, wall time.Duration }

const (
	glanceFor   = 10 * time.Millisecond
	glanceSlack = time.Millisecond // by which the two may differ, as the second is read a little after the first
	glanceTook  = 100 * time.Microsecond
)

// look returns what the lease's clock shows, and the one on the wall.
func (g *glances) look() (boot, wall time.Duration) {
	mono, wall := g.now()
	if l := g.last.Load(); l != nil {
		if gone := mono - l.mono; gone < glanceFor && (wall-l.wall-gone).Abs() < glanceSlack {
			return l.boot + gone, wall
		}
	}
	boot = g.boot()
	if after, _ := g.now(); after-mono < glanceTook {
		g.last.Store(&sight{boot, mono, wall})
	}
	return boot, wall
}

// clocks are this process's.
var clocks = glances{boot: bootTime, now: func() (mono, wall time.Duration) {
	now := time.Now()
	return now.Sub(processStart), wallOf(now)
}}

var processStart = time.Now()

// wallOf is what the clock on the wall shows.
var wallOf = func(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }

func wallTime() time.Duration { return wallOf(time.Now()) }
