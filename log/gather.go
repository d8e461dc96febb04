package log

import "sync"

// A gatherer takes appends from any number of goroutines and forms batches of them (group commit):
// while one batch is under way, the next one fills. Large records have a queue of their own, and the
// two take turns, so that a small record never waits for all the large ones that came before it.
type gatherer struct {
	limit int64 // of bytes waiting

	mu      sync.Mutex // guards everything below
	small   line
	large   line
	turn    *line            // whose batch was taken last
	waiting int64            // bytes of batches whose fate is unknown, those under way included
	err     error            // why nothing more is taken
	refusal map[string]error // why nothing is taken for the time being, by kind
	refused error            // one of these
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
	size := int64(len(record) + recordHeader)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return nil, 0, false, g.err
	}
	if g.refused != nil {
		return nil, 0, false, g.refused
	}
	if g.waiting > 0 && g.waiting+size > g.limit {
		return nil, 0, false, ErrBusy
	}
	g.waiting += size
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

// nextLocked returns the line of which a batch is to be taken next, nil if there is none with room for it. When
// the one whose turn it is must wait, the other goes on.
func (g *gatherer) nextLocked(room func(size int) bool) *line {
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
	g.mu.Lock()
	if b.settled {
		g.mu.Unlock()
		return
	}
	b.settled = true
	g.waiting -= int64(b.Size() - batchHeader)
	g.mu.Unlock()
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
	g.refused = nil
	for _, err := range g.refusal {
		if err != nil {
			g.refused = err
		}
	}
	if g.refused == nil {
		return nil
	}
	left := append(g.small.queue, g.large.queue...)
	g.small.queue, g.large.queue = nil, nil
	return left
}

// close refuses appends from now on and returns the batches that were never proposed.
func (g *gatherer) close(err error) []*Batch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	left := append(g.small.queue, g.large.queue...)
	g.small.queue, g.large.queue = nil, nil
	return left
}
