package log

import (
	"sync"
)

// A gatherer takes appends from any number of goroutines and forms batches of them (group commit):
// while one batch is under way, the next one fills.
type gatherer struct {
	limit int64 // of bytes waiting

	mu      sync.Mutex // guards everything below
	queue   []*Batch   // the last one is being filled
	waiting int64      // bytes of batches whose fate is unknown, those under way included
	last    int        // size of the batch that was taken last, which the next may well have too
	err     error      // why nothing more is taken
}

// A waiter is one append that waits for its fate. Hand-over: the loop sends exactly one result; the
// appender either receives it and puts the waiter back into the pool, or gives up and leaves the
// waiter to the collector.
type waiter struct {
	result chan result // size 1, so that the loop never waits for an appender
}

type result struct {
	index uint64
	err   error
}

var waiters = sync.Pool{New: func() any { return &waiter{result: make(chan result, 1)} }}

// add puts a copy of the record into the batch that is being filled. first reports whether the loop
// may be asleep: the batch is new.
func (g *gatherer) add(epoch uint64, record []byte) (w *waiter, first bool, err error) {
	size := int64(len(record) + recordHeader)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return nil, false, g.err
	}
	if g.waiting > 0 && g.waiting+size > g.limit {
		return nil, false, ErrBusy
	}
	g.waiting += size
	n := len(g.queue)
	if n == 0 || g.queue[n-1].Epoch != epoch || g.queue[n-1].Size() >= FullBatch {
		g.queue = append(g.queue, NewBatch(epoch, max(len(record)+recordHeader, g.last, 256)))
		n, first = n+1, true
	}
	w = waiters.Get().(*waiter)
	b := g.queue[n-1]
	b.Add(record)
	b.waiters = append(b.waiters, w)
	return w, first, nil
}

// take returns the oldest batch if there is room for it.
func (g *gatherer) take(room func(size int) bool) *Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 || !room(g.queue[0].Size()) {
		return nil
	}
	b := g.queue[0]
	g.queue[0], g.queue = nil, g.queue[1:]
	g.last = b.Size()
	return b
}

// settle tells everyone in the batch its fate.
func (g *gatherer) settle(b *Batch, err error) {
	g.mu.Lock()
	g.waiting -= int64(b.Size() - batchHeader)
	g.mu.Unlock()
	for i, w := range b.waiters {
		r := result{index: b.First + uint64(i), err: err}
		if err != nil {
			r.index = 0
		}
		w.result <- r
	}
	b.waiters = nil
}

// close refuses appends from now on and returns the batches that were never proposed.
func (g *gatherer) close(err error) []*Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	left := g.queue
	g.queue = nil
	return left
}
