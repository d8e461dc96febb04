// Package sim holds what a simulated cluster lives in: a [World] of virtual time with one queue of
// events and one source of randomness, and a [Disk] that loses at a crash what was not synced. One
// goroutine runs everything, so a seed decides everything: the same seed gives the same run, which
// [World.Hash] shows.
package sim

import (
	"container/heap"
	"encoding/binary"
	"hash"
	"hash/fnv"
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
	trace hash.Hash64
}

// NewWorld returns the world of a seed, at time 0.
func NewWorld(seed uint64) *World {
	return &World{Rand: rand.New(rand.NewPCG(seed, 0x6261746f6e)), trace: fnv.New64a()}
}

// Now is the present virtual time.
func (w *World) Now() time.Duration { return w.now }

// After lets f happen a while from now. Things due at the same time happen in the order in which they
// were asked for.
func (w *World) After(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{at: w.now + max(d, 0), seq: w.seq, do: f})
}

// Run lets everything happen that is due before a time, or until stop says so.
func (w *World) Run(until time.Duration, stop func() bool) {
	for len(w.queue) > 0 && w.queue[0].at < until {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.count++
		e.do()
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
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(w.now))
	w.trace.Write(b[:])
	for _, n := range numbers {
		binary.LittleEndian.PutUint64(b[:], n)
		w.trace.Write(b[:])
	}
}

// Hash is the hash of all that was traced: equal for equal runs.
func (w *World) Hash() uint64 { return w.trace.Sum64() }

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
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}
