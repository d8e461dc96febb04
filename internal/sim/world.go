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
	seq   uint64
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
	w.push(event{at: w.now + max(d, 0), do: f})
}

func (w *World) push(e event) {
	w.seq++
	e.seq = w.seq
	w.queue.push(e)
}

// Run lets everything happen that is due before a time, or until stop says so.
func (w *World) Run(until time.Duration, stop func() bool) {
	for len(w.queue) > 0 && w.queue[0].at < until {
		e := w.queue.pop()
		w.now = e.at
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
	at      time.Duration
	seq     uint64
	do      func()
	process *Process // to whom it happens, nil: to nobody's life
	life    int
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// events is a heap of four children a node, the next event on top. It is the simulator's hottest place, and
// container/heap would allocate for each event twice.
type events []event

func (q *events) push(e event) {
	h := append(*q, e)
	*q = h
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = e
}

func (q *events) pop() event {
	h := *q
	top, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		least := &last
		at := i
		for child := 4*i + 1; child < min(4*i+5, len(h)); child++ {
			if h[child].before(least) {
				least, at = &h[child], child
			}
		}
		if at == i {
			break
		}
		h[i] = h[at]
		i = at
	}
	h[i] = last
	return top
}
