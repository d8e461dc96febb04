package storage

import "sync"

const (
	roomStep  = 256 << 10 // bytes that are made ready at a time
	roomLow   = 1 << 20   // when fewer are ready, more are made
	roomWrite = 64 << 10  // largest write that is worth it: with more the zeros cost more than the journal
)

// room is the part of a segment that has been written before, if only with zeros. A block that is merely reserved costs a
// commit of the file system's journal when it is first synced, which makes that sync half as long again (DESIGN.md,
// Speed). So zeros are written ahead of small writes, in the background. PostgreSQL does it for all (wal_init_zero).
//
// Invariant: no zeros are written to a block from the time on at which take gives it to the log.
type room struct {
	f     syncedFile
	size  int64 // up to here the segment is reserved
	tally *tally

	mu     sync.Mutex // guards what follows
	idle   sync.Cond  // busy has become false
	used   int64      // blocks up to here belong to the log
	ready  int64      // blocks up to here were written, or belong to the log
	want   int64      // blocks up to here should be ready
	busy   bool       // zeros are being written to the blocks after ready
	stage  int        // how many of fullStages the log has filled
	closed bool
}

// newRoom says that the blocks up to ready have been written. None is made ready if writes are synced by a call of their
// own: that of the zeros could be told of a failure of the log's.
func newRoom(f syncedFile, ready, size int64, t *tally) *room {
	r := &room{f: f, size: roundDown(size), ready: roundUp(ready), tally: t}
	r.idle.L = &r.mu
	r.closed = !f.direct
	return r
}

// fullStages are the sixteenths of a segment at which there should be a next one: then it is made; then, if there is none,
// new records are refused; and then none are taken. What may be on its way at either moment must fit into the rest.
var fullStages = [...]int64{8, 9, 10}

// take gives size bytes to the log, whole blocks from at on, and reports whether extend should be called. It waits while
// zeros are being written to one of them.
func (r *room) take(at, size int64) (low bool) {
	end := at + size
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy && end > r.ready {
		r.idle.Wait()
	}
	r.used = max(r.used, end)
	r.ready = max(r.ready, end)
	if r.want = r.ready; size <= roomWrite {
		r.want = min(end+roomLow, r.size)
	}
	stage := r.stage
	for stage < len(fullStages) && end >= r.size/16*fullStages[stage] {
		stage++
	}
	further := stage > r.stage
	r.stage = stage
	return further || r.ready < r.want
}

// extend makes as much ready as is wanted. half: the log has filled half of the segment.
func (r *room) extend() (half bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ready < r.want && !r.closed {
		from, to := r.ready, min(r.ready+roomStep, r.size)
		r.busy = true
		r.mu.Unlock()
		err := r.f.writeAt(zeros()[:to-from], from, &r.tally.zeros)
		r.mu.Lock()
		r.busy = false
		r.idle.Broadcast()
		if err != nil {
			return false, err
		}
		r.ready = to
	}
	return r.stage > 0, nil
}

// left is how many bytes the log can still write to the segment without asking for space.
func (r *room) left() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size - r.used
}

// close waits for what is being written; nothing is any more.
func (r *room) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy {
		r.idle.Wait()
	}
	r.closed = true
}

var zeros = sync.OnceValue(func() []byte { return aligned(roomStep)[:roomStep] })
