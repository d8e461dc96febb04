package log

import (
	"testing"

	"github.com/baton-ha/baton/internal/core"
)

// TestRequestsUnderWay: a request is where it was put last until that batch is settled, and of a session of which none is under way nothing is kept, but of
// the one that was used last.
func TestRequestsUnderWay(t *testing.T) {
	var r requests
	id := func(session, number uint64) *core.RequestID {
		return &core.RequestID{Session: core.SessionID{Epoch: 1, Number: session}, Number: number}
	}
	look := func(session, number uint64) *pending {
		of := id(session, number)
		at, ok := r.look(requestKey{of.Session, of.Number})
		if ok != (at.b != nil) {
			t.Fatalf("request %d of session %d: %v, but %+v", number, session, ok, at)
		}
		return at.b
	}
	first, second := new(pending), new(pending)
	for s := range uint64(5) {
		for n := range uint64(20) {
			r.await(id(s, n+1), place{b: first, at: int(n)})
		}
	}
	for n := uint64(3); n < 6; n++ { // asked again, in another epoch for instance
		r.await(id(2, n), place{b: second})
	}
	for _, batch := range []*pending{nil, first, second} {
		if batch != nil {
			r.settled(batch)
		}
		for s := range uint64(6) {
			for n := range uint64(22) {
				want := first
				switch {
				case s == 2 && n >= 3 && n < 6 && batch != second:
					want = second
				case batch != nil, s > 4, n < 1, n > 20:
					want = nil
				}
				if got := look(s, n); got != want {
					t.Errorf("request %d of session %d is in %p, should be in %p (settled %p)", n, s, got, want, batch)
				}
			}
		}
	}
	if len(r.of) > 1 {
		t.Errorf("%d sessions are kept", len(r.of))
	}
}
