package core

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOutcomes: they are a map, in order, from whose beginning is cut.
func TestOutcomes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var o outcomes
	want := map[uint64]uint64{}
	for step := range uint64(3000) {
		n := step + r.Uint64N(64)
		if r.IntN(50) == 0 {
			n = r.Uint64N(step + 1)
		}
		o.put(n, Outcome{Index: step})
		want[n] = step
		if r.IntN(20) == 0 {
			floor := r.Uint64N(step + 1)
			before := len(o.of)
			o.cut(floor, func(Outcome) { before-- })
			for n := range want {
				if n < floor {
					delete(want, n)
				}
			}
			if before != len(want) {
				t.Fatalf("cut at %d: not all that went were shown", floor)
			}
		}
		if len(o.of) != len(want) || !slices.IsSortedFunc(o.of, func(a, b numbered) int { return int(a.number) - int(b.number) }) {
			t.Fatalf("step %d: %d outcomes, should be %d, in order", step, len(o.of), len(want))
		}
		out, ok := o.get(n - 1)
		if index, known := want[n-1]; ok != known || out.Index != index {
			t.Fatalf("step %d: number %d has %d, %v, should have %d, %v", step, n-1, out.Index, ok, index, known)
		}
	}
}
