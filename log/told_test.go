package log

import (
	"errors"
	"sync/atomic"
	"testing"
)

// heard is a Settler that counts.
type heard struct{ atomic.Int32 }

func (h *heard) Settled() { h.Add(1) }

// TestTold: each who asks before the fate is known is told once, the first by who settles; later ones are not told that they are not.
func TestTold(t *testing.T) {
	g := gatherer{limit: 1 << 20}
	var fates [2]Pending
	for i := range fates {
		b, at, _, err := g.add(1, []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		fates[i] = Pending{claim: claim{place: place{b, at, 1}}}
	}
	if !fates[0].With(fates[1]) || (Pending{}).With(Pending{}) {
		t.Error("who is with whom")
	}
	var first, others heard
	for i := range 5 {
		s := &first
		if i > 0 {
			s = &others
		}
		if !fates[i%2].Notify(s) {
			t.Fatal("the fate is known before it is")
		}
	}
	fates[0].b.Settle(errors.New("lost"))
	if n := first.Load(); n != 1 {
		t.Errorf("the first was told %d times when it was settled", n)
	}
	g.telling.Wait()
	if n := others.Load(); n != 4 {
		t.Errorf("4 others were told %d times", n)
	}
	if fates[1].Notify(&first) {
		t.Error("who asks too late will be told")
	}
	if (Pending{}).Notify(&first) {
		t.Error("who asks for what had taken effect before will be told")
	}
}
