package core

import (
	"cmp"
	"slices"
)

// Outcomes are those of one session, by number. Nearly all come with a number above all others, and go with the lowest: so a sorted
// slice is cheaper than a map, which costs each request a third of what it costs to apply.
type outcomes []numbered

type numbered struct {
	number uint64
	Outcome
}

// find returns where a number is, or would be.
func (o outcomes) find(number uint64) (at int, ok bool) {
	if n := len(o); n == 0 || o[n-1].number < number {
		return n, false
	}
	return slices.BinarySearchFunc(o, number, func(e numbered, n uint64) int { return cmp.Compare(e.number, n) })
}

// get returns the outcome of a number.
func (o outcomes) get(number uint64) (out Outcome, ok bool) {
	at, ok := o.find(number)
	if ok {
		out = o[at].Outcome
	}
	return out, ok
}

// put gives a number an outcome.
func (o *outcomes) put(number uint64, out Outcome) {
	at, ok := o.find(number)
	if ok {
		(*o)[at].Outcome = out
		return
	}
	*o = slices.Insert(*o, at, numbered{number, out})
}

// cut takes the outcomes below a number away, and returns them: they are valid until the next put.
func (o *outcomes) cut(floor uint64) (below outcomes) {
	at, _ := o.find(floor)
	below, *o = (*o)[:at], (*o)[at:]
	return below
}
