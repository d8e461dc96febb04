package core

import "slices"

// Numbers are values by the numbers of one session's requests. Nearly all come with a number above all others, and go with the lowest: so a sorted
// slice that goes on in the same memory is cheaper than a map, which costs each request a third of what it costs to apply. The zero value is empty.
type Numbers[V any] struct {
	of   []numbered[V] // in order
	room []numbered[V] // the memory that of is in
}

type numbered[V any] struct {
	number uint64
	value  V
}

// Len returns how many there are.
func (n *Numbers[V]) Len() int { return len(n.of) }

// find returns where a number is, or would be. Hardly any number is missing between two that are there, so it is looked for from where it would be
// if none were, in steps that double: mostly that is one.
func (n *Numbers[V]) find(number uint64) (at int, ok bool) {
	last := len(n.of) - 1
	if last < 0 || n.of[last].number < number {
		return last + 1, false
	}
	if first := n.of[0].number; number <= first {
		return 0, number == first
	}
	high := int(min(uint64(last), number-n.of[0].number)) // not before number
	low := high
	for step := 1; n.of[low].number >= number; step *= 2 {
		high = low
		low = max(0, low-step)
	}
	for high-low > 1 {
		if middle := (low + high) / 2; n.of[middle].number < number {
			low = middle
		} else {
			high = middle
		}
	}
	return high, n.of[high].number == number
}

// Get returns the value of a number.
func (n *Numbers[V]) Get(number uint64) (v V, ok bool) {
	at, ok := n.find(number)
	if ok {
		v = n.of[at].value
	}
	return v, ok
}

// Put gives a number a value, and returns the one that it had.
func (n *Numbers[V]) Put(number uint64, v V) (old V, ok bool) {
	at, ok := n.find(number)
	if ok {
		old, n.of[at].value = n.of[at].value, v
		return old, true
	}
	if some := len(n.of); some == cap(n.of) {
		if n.room == nil || some > len(n.room)/2 {
			n.room = make([]numbered[V], max(4, 2*some))
		}
		// At most once for as many puts as there is room left: what has gone from the beginning has left it.
		to := n.room[:copy(n.room, n.of)]
		clear(n.room[len(to):])
		n.of = to
	}
	n.of = slices.Insert(n.of, at, numbered[V]{number, v})
	return old, false
}

// Delete takes a number away, if it is there.
func (n *Numbers[V]) Delete(number uint64) {
	at, ok := n.find(number)
	switch {
	case !ok:
	case at < len(n.of)/2:
		copy(n.of[1:at+1], n.of[:at])
		n.of[0] = numbered[V]{}
		n.of = n.of[1:]
	default:
		n.of = slices.Delete(n.of, at, at+1)
	}
}

// Cut takes all below a number away, after each was shown to gone.
func (n *Numbers[V]) Cut(below uint64, gone func(V)) {
	at, _ := n.find(below)
	for i := range n.of[:at] {
		gone(n.of[i].value)
		n.of[i] = numbered[V]{}
	}
	n.of = n.of[at:]
}
