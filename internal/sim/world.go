// Package sim holds what a simulated cluster lives in: a [World] of virtual time with one queue of
// events and one source of randomness, a [Process] that can die, and a [Disk] that loses at a crash what was not synced. One
// goroutine runs everything, so a seed decides everything: the same seed gives the same run, which
// [World.Hash] shows.
package sim

import (
	"math/rand/v2"
	"time"
)

// A World is virtual time. It is used by one goroutine.
type World struct {
	// Rand is the run's only source of randomness.
	Rand *rand.Rand

	now   time.Duration
	queue events
	count int
	trace uint64
}

// NewWorld returns the world of a seed, at time 0.
func NewWorld(seed uint64) *World {
	return &World{Rand: rand.New(rand.NewPCG(seed, 0x6261746f6e))}
}

// Now is the present virtual time.
func (w *World) Now() time.Duration { return w.now }

// After lets f happen a while from now. Things due at the same time happen in the order in which they
// were asked for.
func (w *World) After(d time.Duration, f func()) {
	w.queue.push(w.now+max(d, 0), event{do: f})
}

// Run lets everything happen that is due before a time, or until stop says so.
func (w *World) Run(until time.Duration, stop func() bool) {
	for {
		at, any := w.queue.next()
		if !any || at >= until {
			break
		}
		e := w.queue.pop()
		w.now = at
		w.count++
		if e.process == nil {
			e.do()
		} else {
			e.process.happen(e.life, e.do)
		}
		if stop != nil && stop() {
			return
		}
	}
	w.now = max(w.now, until)
}

// Events is how many things have happened.
func (w *World) Events() int { return w.count }

// Trace takes numbers that describe what happens into the run's hash.
func (w *World) Trace(numbers ...uint64) {
	w.take(uint64(w.now))
	for _, n := range numbers {
		w.take(n)
	}
}

func (w *World) take(n uint64) {
	w.trace = (w.trace ^ n) * 0x9e3779b97f4a7c15
	w.trace ^= w.trace >> 32
}

// Hash is the hash of all that was traced: equal for equal runs.
func (w *World) Hash() uint64 { return w.trace }

// Chance is true with a probability.
func (w *World) Chance(p float64) bool { return w.Rand.Float64() < p }

// Between returns a duration of at least lo and less than hi.
func (w *World) Between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.Rand.Int64N(int64(hi-lo)))
}

type event struct {
	do      func()
	process *Process // to whom it happens, nil: to nobody's life
	life    int
}

// events are what is due, in order. They are the simulator's hottest place. Mostly a few dozen are due, and what is asked for comes before most of
// them, so an ordered list of small places that hold no pointers is faster than a heap.
type events struct {
	order []due   // the last one is next
	kept  []event // where the places are
	free  []int   // places that are free
}

type due struct {
	at    time.Duration
	place int
}

// push adds an event behind all that are due at the same time or before.
func (q *events) push(at time.Duration, e event) {
	place := len(q.kept)
	if n := len(q.free); n > 0 {
		place, q.free = q.free[n-1], q.free[:n-1]
		q.kept[place] = e
	} else {
		q.kept = append(q.kept, e)
	}
	lo, hi := 0, len(q.order)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); q.order[mid].at > at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	q.order = append(q.order, due{})
	copy(q.order[lo+1:], q.order[lo:])
	q.order[lo] = due{at, place}
}

// next is when the next event is due, false if there is none.
func (q *events) next() (time.Duration, bool) {
	if len(q.order) == 0 {
		return 0, false
	}
	return q.order[len(q.order)-1].at, true
}

// pop takes the next event.
func (q *events) pop() event {
	n := len(q.order) - 1
	place := q.order[n].place
	q.order, q.free = q.order[:n], append(q.free, place)
	e := q.kept[place]
	q.kept[place] = event{}
	return e
}
