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
	tag   uint64
	waits map[uint64]*waiter // by tag
	over  bool
}

// A waiter waits for one reply.
type waiter struct {
	done  chan struct{} // size 1: a token says that what follows is there
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
	return &callLine{member: member, gone: make(chan struct{}), resumed: make(chan struct{}, 1), waits: map[uint64]*waiter{}}
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
	l.tag++
	q.Tag = l.tag
	l.waits[q.Tag] = w
	l.mu.Unlock()
	l.line.Send(q)
	select {
	case <-w.done:
	case <-ctx.Done():
		if l.leave(q.Tag) {
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

// leave says that nobody waits for a reply any more. It is false if the waiter was found already, and gets its token.
func (l *callLine) leave(tag uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.waits[tag]
	delete(l.waits, tag)
	return ok
}

// Replied implements [Waiting].
func (l *callLine) Replied(replies []Reply) {
	var room [64]*waiter
	found := room[:0]
	l.mu.Lock()
	for i := range replies {
		if w := l.waits[replies[i].Tag]; w != nil {
			delete(l.waits, replies[i].Tag)
			w.reply = replies[i]
			found = append(found, w)
		}
	}
	l.mu.Unlock()
	l.woken.Add(int64(len(found)))
	for _, w := range found {
		w.done <- struct{}{}
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
		w.err = ErrLineLost
		w.done <- struct{}{}
	}
}
