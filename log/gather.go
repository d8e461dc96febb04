package log

import "sync"

// A gatherer takes appends from any number of goroutines and forms batches of them (group commit):
// while one batch is under way, the next one fills.
type gatherer struct {
	limit int64 // of bytes waiting

	mu      sync.Mutex // guards everything below
	queue   []*Batch   // the last one is being filled
	waiting int64      // bytes of batches whose fate is unknown, those under way included
	expect  int        // size that the next batch is likely to get, from those before it
	err     error      // why nothing more is taken
}

// add puts a copy of the record into the batch that is being filled, as its at-th. first reports whether
// the loop may be asleep: the batch is new. The batch's done channel tells when its fate is known.
func (g *gatherer) add(epoch uint64, record []byte) (b *Batch, at int, first bool, err error) {
	size := int64(len(record) + recordHeader)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return nil, 0, false, g.err
	}
	if g.waiting > 0 && g.waiting+size > g.limit {
		return nil, 0, false, ErrBusy
	}
	g.waiting += size
	if n := len(g.queue); n > 0 {
		b = g.queue[n-1]
	}
	if b == nil || b.Epoch != epoch || b.Size() >= FullBatch {
		b, first = NewBatch(epoch, max(len(record)+recordHeader, g.expect, 256)), true
		g.queue = append(g.queue, b)
	}
	at = b.Count
	b.Add(record)
	return b, at, first, nil
}

// size returns the size of the oldest batch in bytes, 0 if there is none.
func (g *gatherer) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return 0
	}
	return g.queue[0].Size()
}

// take returns the oldest batch, which must be there.
func (g *gatherer) take() *Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.queue[0]
	g.queue[0], g.queue = nil, g.queue[1:]
	g.expect = max(b.Size(), g.expect-g.expect/8)
	return b
}

// settle tells everyone in the batch its fate.
func (g *gatherer) settle(b *Batch, err error) {
	g.mu.Lock()
	g.waiting -= int64(b.Size() - batchHeader)
	g.mu.Unlock()
	b.err = err
	close(b.done)
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
