package wire

import (
	"context"
	"sync"
	"sync/atomic"
)

// This file is what waits on a line: one waiter for each request, found by its tag.

// A callLine is the line to one member, and who waits for what comes on it.
type callLine struct {
	member string
	line   Line
	gone   chan struct{} // closed when nothing more will come

	woken   atomic.Int64  // those who have got a reply and do not run yet
	resumed chan struct{} // size 1: a token says that there were none

	mu    sync.Mutex // guards everything below
	asked uint32     // requests, modulo 2³²
	waits []*waiter  // by the place that their tags say; nil: nobody is there
	free  []uint32   // the places where nobody is
	over  bool
}

// A tag says at which place who waits for the reply is, in its lower half, and the how manieth request it is, in the upper one: a reply that comes when who
// has asked waits no longer is not taken for one to who has come to that place after it.
type tag uint64

func (t tag) place() uint32 { return uint32(t) }

// A waiter waits for one reply.
type waiter struct {
	done  chan struct{} // size 1: a token says that what follows is there
	tag   tag
	next  *waiter // among those who were found together
	reply Reply
	err   error
}

// waiters are those that wait for nothing.
var waiters = sync.Pool{New: func() any { return &waiter{done: make(chan struct{}, 1)} }}

// result returns what the waiter has got, and gives it back.
func (w *waiter) result() (Reply, error) {
	reply, err := w.reply, w.err
	w.reply, w.err = Reply{}, nil
	waiters.Put(w)
	return reply, err
}

func newCallLine(member string) *callLine {
	return &callLine{member: member, gone: make(chan struct{}), resumed: make(chan struct{}, 1)}
}

func (l *callLine) alive() bool {
	select {
	case <-l.gone:
		return false
	default:
		return true
	}
}

// ask sends a request and waits for its reply, until the line is lost.
func (l *callLine) ask(ctx context.Context, q Request) (Reply, error) {
	w := waiters.Get().(*waiter)
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		w.err = ErrLineLost
		return w.result()
	}
	l.seatLocked(w)
	q.Tag = uint64(w.tag)
	l.mu.Unlock()
	l.line.Send(q)
	select {
	case <-w.done:
	case <-ctx.Done():
		if l.leave(w) {
			w.err = context.Cause(ctx)
			return w.result()
		}
		<-w.done // it has just come
	}
	if w.err == nil && l.woken.Add(-1) == 0 {
		select {
		case l.resumed <- struct{}{}:
		default:
		}
	}
	return w.result()
}

// seatLocked gives a waiter a place and its tag.
func (l *callLine) seatLocked(w *waiter) {
	n := len(l.free)
	if n == 0 {
		l.waits = append(l.waits, nil)
		l.free, n = append(l.free, uint32(len(l.waits)-1)), 1
	}
	place := l.free[n-1]
	l.free = l.free[:n-1]
	l.asked++
	w.tag = tag(l.asked)<<32 | tag(place)
	l.waits[place] = w
}

// foundLocked takes the waiter of a tag away from its place, nil if nobody waits for that reply any more.
func (l *callLine) foundLocked(t tag) *waiter {
	if uint64(t.place()) >= uint64(len(l.waits)) {
		return nil
	}
	w := l.waits[t.place()]
	if w == nil || w.tag != t {
		return nil
	}
	l.waits[t.place()] = nil
	l.free = append(l.free, t.place())
	return w
}

// leave says that nobody waits for a reply any more. It is false if the waiter was found already, and gets its token.
func (l *callLine) leave(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.foundLocked(w.tag) != nil
}

// Replied implements [Waiting].
func (l *callLine) Replied(replies []Reply) {
	var first *waiter
	next, found := &first, int64(0)
	l.mu.Lock()
	for i := range replies {
		if w := l.foundLocked(tag(replies[i].Tag)); w != nil {
			w.reply = replies[i]
			*next, next = w, &w.next
			found++
		}
	}
	l.mu.Unlock()
	*next = nil
	l.woken.Add(found)
	for w := first; w != nil; {
		next := w.next // w is another's as soon as it has its token
		w.done <- struct{}{}
		w = next
	}
}

// Resumed implements [Waiting].
func (l *callLine) Resumed() {
	for l.woken.Load() > 0 {
		<-l.resumed
	}
}

// Lost implements [Waiting].
func (l *callLine) Lost(error) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.over = true
	waits := l.waits
	l.waits = nil
	l.mu.Unlock()
	close(l.gone)
	for _, w := range waits {
		if w != nil {
			w.err = ErrLineLost
			w.done <- struct{}{}
		}
	}
}
