package core

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestNumbers: they are a map, in order, from whose beginning is cut; also where many numbers are missing.
func TestNumbers(t *testing.T) {
	for _, apart := range []uint64{1, 3, 1 << 50} {
		r := rand.New(rand.NewPCG(3, 4))
		var n Numbers[uint64]
		want := map[uint64]uint64{}
		for step := range uint64(3000) {
			number := (step + r.Uint64N(64)) * apart
			if r.IntN(50) == 0 {
				number = r.Uint64N(step+1) * apart
			}
			was, known := want[number]
			if old, ok := n.Put(number, step); ok != known || old != was {
				t.Fatalf("step %d: number %d had %d, %v, should have had %d, %v", step, number, old, ok, was, known)
			}
			want[number] = step
			if r.IntN(3) == 0 {
				number := number - min(number, r.Uint64N(100)*apart)
				n.Delete(number)
				delete(want, number)
			}
			if r.IntN(20) == 0 {
				floor := r.Uint64N((step + 1) * apart)
				before := n.Len()
				n.Cut(floor, func(uint64) { before-- })
				for number := range want {
					if number < floor {
						delete(want, number)
					}
				}
				if before != len(want) {
					t.Fatalf("cut at %d: not all that went were shown", floor)
				}
			}
			begin := cap(n.room) - cap(n.of)
			for _, gone := range [][]numbered[uint64]{n.room[:begin], n.room[begin+n.Len():]} {
				if slices.ContainsFunc(gone, func(e numbered[uint64]) bool { return e != numbered[uint64]{} }) {
					t.Fatalf("step %d: something that has gone is held", step)
				}
			}
			if n.Len() != len(want) || !slices.IsSortedFunc(n.of, func(a, b numbered[uint64]) int { return cmp.Compare(a.number, b.number) }) {
				t.Fatalf("step %d: %d numbers, should be %d, in order", step, n.Len(), len(want))
			}
			for _, number := range []uint64{number, number - min(number, apart), number + apart, number + 1, r.Uint64N((step + 65) * apart)} {
				v, ok := n.Get(number)
				if is, known := want[number]; ok != known || v != is {
					t.Fatalf("step %d: number %d has %d, %v, should have %d, %v", step, number, v, ok, is, known)
				}
			}
		}
	}
}

// BenchmarkSessions applies the requests of one session, of which so many are open at a time: batch after batch, in nearly the order of their numbers.
func BenchmarkSessions(b *testing.B) {
	for _, open := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("open=%d", open), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			var order []int // in which the numbers of one round are applied, from 0 on
			for at := 0; at < open; at += 8 {
				for _, i := range r.Perm(min(8, open-at)) {
					order = append(order, at+i)
				}
			}
			var t Sessions
			id := SessionID{1, 1}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				number := n/open*open + 1 + order[n%open]
				done := max(1, n/8*8-open+1)
				t.Apply(RequestID{id, uint64(number), uint64(done)}, Outcome{Index: uint64(n)})
			}
		})
	}
}
