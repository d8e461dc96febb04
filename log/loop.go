package log

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/baton-ha/baton/internal/core"
)

// run is the loop. It owns the core: whatever happens to the member passes through the inbox and is
// stepped here, turn by turn.
func (l *Log) run() {
	alarm := newAlarm(l.inbox.wake)
	defer alarm.Close()
	for {
		idle, err := l.turn()
		switch {
		case err != nil:
			l.shutDown(err)
			return
		case idle > 0:
			alarm.sleep(l.inbox.wake, l.now+idle, idle)
		}
	}
}

// dispatch hands the effects of a step out, and returns what is done already.
func (l *Log) dispatch(eff core.Effects) (done []Mail) {
	l.counts.stepped(eff)
	l.writes.put(eff.Writes...) // first: the disk works while the messages leave
	if len(eff.Send) > 0 {
		l.net.Send(eff.Send)
	}
	if l.cfg.StateMachine != nil {
		l.applies.put(eff.Applies...)
	} else {
		for _, a := range eff.Applies {
			if err := l.applyDone(a, nil); err != nil {
				l.Fail(err)
				return done
			}
			done = append(done, core.Applied{Apply: a})
		}
	}
	l.fetches.put(eff.Fetches...)
	for _, d := range eff.Decided {
		l.decided(d)
	}
	return done
}

// errStopped is the error of a loop that was told to stop.
var errStopped = errors.New("stopped")

// shutDown answers everyone and ends the workers.
func (l *Log) shutDown(err error) {
	if err == errStopped { // no more than that: the error may be the program's
		err = nil
	}
	why := error(ErrClosed)
	if err != nil {
		why = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	l.cfg.Observer.Posted(l.cfg.Clock(), View{}, Stopped{Err: err, Unknown: l.underWay()})
	l.inbox.close(err)
	for b := range l.flying {
		b.Waiter.Settle(fmt.Errorf("%w: %w", ErrUnknown, why))
	}
	for _, b := range l.gather.close(why) {
		b.Settle(why)
	}
	l.store.stop(why)
	close(l.ending)
	l.writes.close()
	l.applies.close()
	l.fetches.close()
	l.workers.Wait()
	l.gather.telling.Wait()
	l.saving.Wait()
	l.writing.Store(true)
	if cerr := l.cfg.Storage.Close(); err == nil {
		err = cerr
	}
	l.writing.Store(false)
	l.err = err
	close(l.stopped)
}

// An inbox is the member's one mailbox.
type inbox struct {
	wake    chan struct{} // size 1: a token says that there may be something to take
	drained chan struct{} // size 1: a token says that there may be room again
	limit   int           // of the bytes that wait, before the connections that bring them are no longer read

	mu     sync.Mutex // guards everything below
	events []Mail
	spare  []Mail // the slice that take returned last, to be filled again
	bytes  int
	closed bool
	err    error
}

// post adds an event, and wakes the loop. One that brings bytes waits while the inbox is full.
func (b *inbox) post(event Mail, bytes int) {
	b.leave(event, bytes)
	token(b.wake)
}

// leave is post without waking the loop.
func (b *inbox) leave(event Mail, bytes int) {
	freshly(bytes)
	b.mu.Lock()
	for bytes > 0 && b.bytes > b.limit && !b.closed {
		b.mu.Unlock()
		<-b.drained
		b.mu.Lock()
	}
	if b.closed {
		b.mu.Unlock()
		token(b.drained) // another may be waiting
		return
	}
	b.events = append(b.events, event)
	b.bytes += bytes
	again := b.bytes <= b.limit
	b.mu.Unlock()
	if bytes > 0 && again {
		token(b.drained)
	}
}

// freshly is called before the inbox's lock is taken by a goroutine that has just worked on so many bytes. Its time
// on the processor may be nearly over, and while it waited for the next with the lock held, behind others that work as
// long, the loop would send no heartbeats. So it waits before.
func freshly(bytes int) {
	if bytes >= FullBatch {
		runtime.Gosched()
	}
}

// take returns all events. The slice is valid until the next take.
func (b *inbox) take() (events []Mail, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	events = b.events
	clear(b.spare) // what turn has put behind it holds nothing
	b.events, b.spare = b.spare[:0], events
	if b.bytes > 0 {
		b.bytes = 0
		token(b.drained)
	}
	return events, b.closed
}

// waits reports whether there is something to take.
func (b *inbox) waits() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events) > 0 || b.closed
}

// ended reports whether it was closed.
func (b *inbox) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// poke wakes the loop.
func (b *inbox) poke() { token(b.wake) }

// close makes the loop stop. The first reason counts.
func (b *inbox) close(err error) {
	b.mu.Lock()
	if !b.closed {
		b.closed, b.err = true, err
	}
	b.mu.Unlock()
	token(b.drained)
	token(b.wake)
}

func (b *inbox) reason() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		return errStopped
	}
	return b.err
}

// token leaves a token in a channel of size 1.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// A queue hands work from the loop to a worker, all that has gathered at a time. It is bounded by what
// raft leaves uncommitted and unapplied.
type queue[T any] struct {
	mu     *sync.Mutex
	more   *sync.Cond
	items  []T
	spare  []T // the slice that take returned last, to be filled again
	closed bool
}

func newQueue[T any]() queue[T] {
	mu := new(sync.Mutex)
	return queue[T]{mu: mu, more: sync.NewCond(mu)}
}

func (q *queue[T]) put(items ...T) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	q.items = append(q.items, items...)
	q.mu.Unlock()
	q.more.Signal()
}

// take waits for work and returns all of it; false when the queue is closed. The slice is valid until the next take.
func (q *queue[T]) take() ([]T, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.spare) // nothing of it is kept while there is no work
	for len(q.items) == 0 && !q.closed {
		q.more.Wait()
	}
	q.items, q.spare = q.spare[:0], q.items
	return q.spare, !q.closed
}

func (q *queue[T]) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.more.Signal()
}
