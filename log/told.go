package log

import "sync"

// This file is for who has many appends under way and wants no goroutine of its own to wait for them.

// A Settler is told of the fate of appends.
type Settler interface {
	// Settled says that the fate is known. It is called once, by whoever has learned it, who must not be held up: it does not block.
	Settled()
}

// Notify has s told once the fate is known; false: it is known already, and s is not told.
func (p Pending) Notify(s Settler) bool {
	return p.b != nil && p.b.told.add(s, p.b.done)
}

// With reports whether the fate of both is known at the same moment, since they are in one batch.
func (p Pending) With(q Pending) bool { return p.b != nil && p.b == q.b }

// told is who is told of a batch's fate. Whoever settles the batch tells the first, which is mostly the only one: that costs no wake-up. Others are told by
// goroutines of their own, so that many of them do not hold up the applier.
type told struct {
	mu sync.Mutex // guards of, and done being closed
	of []Settler
}

// add adds one, if done is not closed yet.
func (t *told) add(s Settler, done <-chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-done:
		return false
	default:
		t.of = append(t.of, s)
		return true
	}
}

// tell closes done and tells all. The goroutines are others'.
func (t *told) tell(others *sync.WaitGroup, done chan struct{}) {
	t.mu.Lock()
	of := t.of
	t.of = nil
	close(done)
	t.mu.Unlock()
	if len(of) == 0 {
		return
	}
	for _, s := range of[1:] {
		others.Go(s.Settled)
	}
	of[0].Settled()
}
