package core

import (
	"cmp"
	"slices"
)

// Outcomes are those of one session, by number. Nearly all come with a number above all others, and go with the lowest: so a sorted
// slice that goes on in the same memory is cheaper than a map, which costs each request a third of what it costs to apply.
type outcomes struct {
	of   []numbered // in order
	room []numbered // the memory that of is in
}

type numbered struct {
	number uint64
	Outcome
}

// find returns where a number is, or would be.
func (o *outcomes) find(number uint64) (at int, ok bool) {
	if n := len(o.of); n == 0 || o.of[n-1].number < number {
		return n, false
	}
	return slices.BinarySearchFunc(o.of, number, func(e numbered, n uint64) int { return cmp.Compare(e.number, n) })
}

// get returns the outcome of a number.
func (o *outcomes) get(number uint64) (out Outcome, ok bool) {
	at, ok := o.find(number)
	if ok {
		out = o.of[at].Outcome
	}
	return out, ok
}

// put gives a number an outcome.
func (o *outcomes) put(number uint64, out Outcome) {
	at, ok := o.find(number)
	if ok {
		o.of[at].Outcome = out
		return
	}
	if n := len(o.of); n == cap(o.of) {
		if n > len(o.room)/2 {
			o.room = make([]numbered, max(4, 2*n))
		}
		// At most once for as many puts as there is room left: what was cut off has left it.
		to := o.room[:copy(o.room, o.of)]
		clear(o.room[len(to):])
		o.of = to
	}
	o.of = slices.Insert(o.of, at, numbered{number, out})
}

// cut takes the outcomes below a number away, after each was shown to gone.
func (o *outcomes) cut(floor uint64, gone func(Outcome)) {
	at, _ := o.find(floor)
	for i := range o.of[:at] {
		gone(o.of[i].Outcome)
		o.of[i] = numbered{}
	}
	o.of = o.of[at:]
}
