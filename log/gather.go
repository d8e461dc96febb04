package log

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A gatherer takes appends from any number of goroutines and forms batches of them (group commit):
// while one batch is under way, the next one fills. Large records have a queue of their own, and the
// two take turns, so that a small record never waits for all the large ones that came before it.
type gatherer struct {
	limit   int64        // of bytes waiting
	waiting atomic.Int64 // bytes of batches whose fate is unknown, those under way included
	closed  atomic.Pointer[error]
	refused atomic.Pointer[error] // why nothing is taken for the time being: one of refusal

	alone atomic.Pointer[Batch] // those of large records, newest first, on their way to large

	mu      sync.Mutex // guards everything below
	small   line
	large   line
	turn    *line            // whose batch was taken last
	refusal map[string]error // why nothing is taken for the time being, by kind
}

// A line is a queue of batches, of which the last one is being filled.
type line struct {
	queue  []*Batch
	expect int // size that the next batch is likely to get, from those before it
}

// largeRecord is the size in bytes from which a record counts as large.
const largeRecord = 4 << 10

// add puts a copy of the record into the batch that is being filled, as its at-th. first reports whether
// the loop may be asleep: the batch is new. The batch's done channel tells when its fate is known.
func (g *gatherer) add(epoch uint64, record []byte) (b *Batch, at int, first bool, err error) {
	if len(record) >= FullBatch {
		return g.addAlone(epoch, record)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.reserve(len(record)); err != nil {
		return nil, 0, false, err
	}
	l := &g.small
	if len(record) >= largeRecord {
		l = &g.large
	}
	if n := len(l.queue); n > 0 {
		b = l.queue[n-1]
	}
	if b == nil || b.Epoch != epoch || b.Size() >= FullBatch {
		b, first = NewBatch(epoch, max(len(record)+recordHeader, l.expect, 256)), true
		l.queue = append(l.queue, b)
	}
	at = b.Count
	b.Add(record)
	return b, at, first, nil
}

// addAlone is add for a record that fills a batch. It takes no lock that the loop takes, too: those who append
// such records work for so long between two locks that a loop that waits in a row with them would not get to its
// heartbeats.
func (g *gatherer) addAlone(epoch uint64, record []byte) (*Batch, int, bool, error) {
	if err := g.reserve(len(record)); err != nil {
		return nil, 0, false, err
	}
	b := NewBatch(epoch, len(record)+recordHeader)
	b.Add(record)
	for {
		b.next = g.alone.Load()
		if g.alone.CompareAndSwap(b.next, b) {
			break
		}
	}
	if err := g.refuses(); err != nil { // meanwhile, and perhaps nobody will look any more
		for _, b := range g.takeAlone() {
			g.settle(b, err)
		}
	}
	return b, 0, true, nil
}

// takeAlone returns what addAlone has left, oldest first.
func (g *gatherer) takeAlone() (batches []*Batch) {
	for b := g.alone.Swap(nil); b != nil; {
		batches = append(batches, b)
		b, b.next = b.next, nil
	}
	slices.Reverse(batches)
	return batches
}

// refuses says why nothing is taken, nil if it is.
func (g *gatherer) refuses() error {
	for _, p := range []*atomic.Pointer[error]{&g.closed, &g.refused} {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// reserve makes room for one more record, or says why there is none.
func (g *gatherer) reserve(length int) error {
	if err := g.refuses(); err != nil {
		return err
	}
	size := int64(length + recordHeader)
	for {
		waiting := g.waiting.Load()
		if waiting > 0 && waiting+size > g.limit {
			return ErrBusy
		}
		if g.waiting.CompareAndSwap(waiting, waiting+size) {
			return nil
		}
	}
}

// nextLocked returns the line of which a batch is to be taken next, nil if there is none with room for it. When
// the one whose turn it is must wait, the other goes on.
func (g *gatherer) nextLocked(room func(size int) bool) *line {
	if g.alone.Load() != nil {
		g.large.queue = append(g.large.queue, g.takeAlone()...)
	}
	lines := [2]*line{&g.small, &g.large}
	if g.turn == &g.small {
		lines = [2]*line{&g.large, &g.small}
	}
	for _, l := range lines {
		if len(l.queue) > 0 && room(l.queue[0].Size()) {
			return l
		}
	}
	return nil
}

// size returns the size in bytes of the batch that take would return, 0 if there is none.
func (g *gatherer) size(room func(size int) bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.nextLocked(room); l != nil {
		return l.queue[0].Size()
	}
	return 0
}

// take returns the oldest batch of the line whose turn it is, nil if there is no room for any.
func (g *gatherer) take(room func(size int) bool) *Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.nextLocked(room)
	if l == nil {
		return nil
	}
	b := l.queue[0]
	l.queue[0], l.queue = nil, l.queue[1:]
	l.expect = max(b.Size(), l.expect-l.expect/8)
	g.turn = l
	return b
}

// settle tells everyone in the batch its fate. The first one counts: a batch whose records are applied may be settled by
// the applier and by a loop that stops at the same time.
func (g *gatherer) settle(b *Batch, err error) {
	if b.settled.Swap(true) {
		return
	}
	g.waiting.Add(-int64(b.Size() - batchHeader))
	b.err = err
	close(b.done)
}

// refuse makes add return an error until there is no reason for it any more; a nil err takes back the one of that kind. It
// returns the batches that were not proposed.
func (g *gatherer) refuse(kind string, err error) []*Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusal == nil {
		g.refusal = map[string]error{}
	}
	g.refusal[kind] = err
	g.refused.Store(nil)
	for _, err := range g.refusal {
		if err != nil {
			g.refused.Store(&err)
		}
	}
	if g.refused.Load() == nil {
		return nil
	}
	left := slices.Concat(g.small.queue, g.large.queue, g.takeAlone())
	g.small.queue, g.large.queue = nil, nil
	return left
}

// close refuses appends from now on and returns the batches that were never proposed.
func (g *gatherer) close(err error) []*Batch {
	g.closed.CompareAndSwap(nil, &err)
	g.mu.Lock()
	defer g.mu.Unlock()
	left := slices.Concat(g.small.queue, g.large.queue, g.takeAlone())
	g.small.queue, g.large.queue = nil, nil
	return left
}
