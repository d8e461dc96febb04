package ha

import "sync"

// Readers share rounds: those who come while the leader is asked wait together for the next time that it is asked.
//
// Invariant: a round that somebody joins has not begun. So what it learns is of a moment after the call of each who waits for it.
type rounds struct {
	mu   sync.Mutex // guards everything below
	next *round     // nil: nobody waits for one
	busy bool       // one is under way
}

// A round is one question to the leader, and its answer.
type round struct {
	done  chan struct{} // closed when the rest is there
	index uint64        // everything up to this record can have been acknowledged before
	err   error
}

// join returns the round to wait for. first: nobody has asked for it before, and none is under way.
func (r *rounds) join() (mine *round, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next, first = &round{done: make(chan struct{})}, !r.busy
	}
	return r.next, first
}

// begin returns the round that is to be asked now, nil if nobody waits for one.
func (r *rounds) begin() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.next
	r.next, r.busy = nil, mine != nil
	return mine
}

// end ends a round.
func (r *round) end(index uint64, err error) {
	r.index, r.err = index, err
	close(r.done)
}
