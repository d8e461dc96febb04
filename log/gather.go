package log

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// A gatherer takes appends from any number of goroutines and forms batches of them (group commit):
// while one batch is under way, the next one fills. Large records have a queue of their own, and the
// two take turns, so that a small record never waits for all the large ones that came before it.
type gatherer struct {
	limit   int64        // of bytes waiting
	waiting atomic.Int64 // bytes of batches whose fate is unknown, those under way included
	closed  atomic.Pointer[error]
	refused atomic.Pointer[error] // why nothing is taken for the time being: one of refusal

	requests requests

	alone atomic.Pointer[pending] // those of large records, newest first, on their way to large

	mu      sync.Mutex // guards everything below
	small   line
	large   line
	turn    *line            // whose batch was taken last
	awaited int              // the size of a batch at which the loop is to be woken, 0: none
	refusal map[string]error // why nothing is taken for the time being, by kind

	counts  gathered
	telling sync.WaitGroup // see told
}

// A pending is a batch, and what those wait for who have appended to it.
type pending struct {
	core.Batch
	gather  *gatherer
	done    chan struct{} // closed when the fate is known: one wake-up for all who appended to it
	answers answers       // of the state machine, read after done is closed
	err     error         // the fate, likewise
	settled atomic.Bool   // done is closed, or about to be
	next    *pending      // in gatherer.alone
	told    told

	requests []requestKey // of those that are in it

	began    time.Time // when its first record came
	proposed time.Time // zero: it was not
}

// newPending returns an empty batch of the epoch with room for size bytes of records.
func (g *gatherer) newPending(epoch uint64, size int) *pending {
	var room []byte
	if size += core.BatchHeader; size >= smallestKept {
		if kept, _ := buffers.Get().(*[]byte); kept != nil && cap(*kept) >= size {
			room = *kept
		}
	}
	if room == nil {
		room = make([]byte, 0, size)
	}
	b := &pending{Batch: core.MakeBatch(epoch, room), gather: g, done: make(chan struct{}), began: time.Now()}
	b.Waiter = b
	return b
}

// buffers are those of batches that were proposed. Smaller and larger ones are not kept.
var buffers sync.Pool

const (
	smallestKept = 32 << 10
	largestKept  = 2 << 20
)

// free gives the records up, once the batch was proposed.
func (b *pending) free() {
	data := b.Free()
	if n := cap(data); n >= smallestKept && n <= largestKept {
		buffers.Put(&data)
	}
}

// Settle tells everyone in the batch its fate. The first one counts: a batch whose records are applied may be settled by
// the applier and by a loop that stops at the same time.
func (b *pending) Settle(err error) {
	if b.settled.Swap(true) {
		return
	}
	b.gather.waiting.Add(-int64(b.Size() - core.BatchHeader))
	b.gather.counts.settled(b, err)
	b.err = err
	b.told.tell(&b.gather.telling, b.done)
	b.gather.requests.settled(b)
}

// fate returns the index of the at-th record, once done is closed, or why it has none.
func (b *pending) fate(at int) (uint64, error) {
	if b.err != nil {
		return 0, b.err
	}
	return b.First + uint64(at), nil
}

// A line is a queue of batches, of which the last one is being filled.
type line struct {
	queue  []*pending
	expect int // size that the next batch is likely to get, from those before it
}

// largeRecord is the size in bytes from which a record counts as large.
const largeRecord = 4 << 10

// add puts a copy of records, one or more, into the batch that is being filled, the first of them as its at-th. first reports
// whether the loop may be asleep: the batch is new, or as large as it waits for. The batch's done channel tells when its fate is known.
func (g *gatherer) add(epoch uint64, records ...[]byte) (b *pending, at int, first bool, err error) {
	return g.put(epoch, nil, records)
}

// put is add for the records of a request, if there is one.
func (g *gatherer) put(epoch uint64, of *core.RequestID, records [][]byte) (b *pending, at int, first bool, err error) {
	size := sizeOf(records)
	if of != nil {
		size += core.RequestSize
	}
	if size >= FullBatch+core.RecordHeader {
		return g.addAlone(epoch, size, of, records)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if b, first, err = g.openLocked(epoch, size); err != nil {
		return nil, 0, false, err
	}
	at = b.Count
	b.put(of, records)
	return b, at, g.ripeLocked(b) || first, nil
}

// addOne is add for one record. It is what a thousand goroutines do at the same moment, whose stacks are in no cache: it takes little of them.
func (g *gatherer) addOne(epoch uint64, record []byte) (b *pending, at int, first bool, err error) {
	if len(record) >= FullBatch {
		return g.add(epoch, record)
	}
	g.mu.Lock()
	if b, first, err = g.openLocked(epoch, core.RecordHeader+len(record)); err == nil {
		at = b.Count
		b.Add(record)
		first = g.ripeLocked(b) || first
	}
	g.mu.Unlock()
	return b, at, first, err
}

// openLocked makes room for so many bytes of records, and returns the batch that they go into, and whether it is new.
func (g *gatherer) openLocked(epoch uint64, size int) (b *pending, isNew bool, err error) {
	if err := g.reserve(size); err != nil {
		return nil, false, err
	}
	l := &g.small
	if size >= largeRecord+core.RecordHeader {
		l = &g.large
	}
	if n := len(l.queue); n > 0 {
		b = l.queue[n-1]
	}
	if b == nil || b.Epoch != epoch || b.Size() >= FullBatch {
		b, isNew = g.newPending(epoch, max(size, l.expect, 256)), true
		l.queue = append(l.queue, b)
	}
	return b, isNew, nil
}

// ripeLocked reports, once, whether a batch has the size that the loop waits for.
func (g *gatherer) ripeLocked(b *pending) bool {
	if g.awaited == 0 || b.Size() < g.awaited {
		return false
	}
	g.awaited = 0
	return true
}

// put adds records, those of a request if there is one.
func (b *pending) put(of *core.RequestID, records [][]byte) {
	at := b.Count
	if of != nil {
		b.AddRequest(*of, records)
		b.gather.requests.await(of, place{b, at, len(records)})
		return
	}
	for _, r := range records {
		b.Add(r)
	}
}

// sizeOf is how many bytes of a batch records take.
func sizeOf(records [][]byte) (size int) {
	for _, r := range records {
		size += core.RecordHeader + len(r)
	}
	return size
}

// addAlone is add for records that fill a batch. It takes no lock that the loop takes, too: those who append
// such records work for so long between two locks that a loop that waits in a row with them would not get to its
// heartbeats.
func (g *gatherer) addAlone(epoch uint64, size int, of *core.RequestID, records [][]byte) (*pending, int, bool, error) {
	if err := g.reserve(size); err != nil {
		return nil, 0, false, err
	}
	b := g.newPending(epoch, size)
	b.put(of, records)
	for {
		b.next = g.alone.Load()
		if g.alone.CompareAndSwap(b.next, b) {
			break
		}
	}
	if err := g.refuses(); err != nil { // meanwhile, and perhaps nobody will look any more
		for _, b := range g.takeAlone() {
			b.Settle(err)
		}
	}
	return b, 0, true, nil
}

// takeAlone returns what addAlone has left, oldest first.
func (g *gatherer) takeAlone() (batches []*pending) {
	for b := g.alone.Swap(nil); b != nil; {
		batches = append(batches, b)
		b, b.next = b.next, nil
	}
	slices.Reverse(batches)
	return batches
}

// refuses says why nothing is taken, nil if it is.
func (g *gatherer) refuses() error {
	err := g.closed.Load()
	if err == nil {
		err = g.refused.Load()
	}
	if err == nil {
		return nil
	}
	return *err
}

// reserve makes room for so many bytes more, or says why there is none.
func (g *gatherer) reserve(size int) error {
	if err := g.refuses(); err != nil {
		return err
	}
	for {
		waiting := g.waiting.Load()
		if waiting > 0 && waiting+int64(size) > g.limit {
			return ErrBusy
		}
		if g.waiting.CompareAndSwap(waiting, waiting+int64(size)) {
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
	first, second := &g.small, &g.large
	if g.turn == first {
		first, second = second, first
	}
	switch {
	case first.ready(room):
		return first
	case second.ready(room):
		return second
	}
	return nil
}

// ready reports whether there is room for its oldest batch.
func (l *line) ready(room func(size int) bool) bool {
	return len(l.queue) > 0 && room(l.queue[0].Size())
}

// size returns the size in bytes of the batch that take would return, 0 if there is none.
func (g *gatherer) size(room func(size int) bool) int {
	if g.waiting.Load() == 0 { // as on all members but the leader; who comes in this moment wakes the loop
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.nextLocked(room); l != nil {
		return l.queue[0].Size()
	}
	return 0
}

// await has the loop woken once a batch has a size. It returns false if one has it already.
func (g *gatherer) await(size int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range [...]*line{&g.small, &g.large} {
		if n := len(l.queue); n > 0 && l.queue[n-1].Size() >= size {
			return false
		}
	}
	g.awaited = size
	return true
}

// take returns the oldest batch of the line whose turn it is, nil if there is no room for any.
func (g *gatherer) take(room func(size int) bool) *pending {
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
	g.counts.took(b)
	return b
}

// refuse makes add return an error until there is no reason for it any more; a nil err takes back the one of that kind. It
// returns the batches that were not proposed.
func (g *gatherer) refuse(kind string, err error) []*pending {
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
func (g *gatherer) close(err error) []*pending {
	g.closed.CompareAndSwap(nil, &err)
	g.mu.Lock()
	defer g.mu.Unlock()
	left := slices.Concat(g.small.queue, g.large.queue, g.takeAlone())
	g.small.queue, g.large.queue = nil, nil
	return left
}
