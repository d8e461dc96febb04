package main

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/baton-ha/baton/ha"
)

// A command is a record of the log. What depends on the time carries it, as the Active read it: Apply
// must come to the same result on every member, whenever it runs there.
type command struct {
	Op     string `json:"op"`               // push, take, ack, nack, expire, retry
	Now    int64  `json:"now,omitempty"`    // of take and expire, in milliseconds
	Job    uint64 `json:"job,omitempty"`    // of ack, nack and retry
	Lease  uint64 `json:"lease,omitempty"`  // of ack and nack
	For    int64  `json:"for,omitempty"`    // of take: how long the lease lasts, in milliseconds
	Max    int    `json:"max,omitempty"`    // of take: how often a job is given out at most
	Worker string `json:"worker,omitempty"` // of take
	Key    string `json:"key,omitempty"`    // of push: pushing it again does nothing
	Body   string `json:"body,omitempty"`   // of push
}

func (c command) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers and strings always have a form
	}
	return b
}

// A job is in one of three places: ready, leased to a worker, or dead after too many attempts. It is
// gone when it is acked.
type job struct {
	ID       uint64 `json:"id"` // the index of the record that pushed it
	Body     string `json:"body"`
	Attempts int    `json:"attempts,omitempty"` // how often it was given out
	Max      int    `json:"max,omitempty"`      // after that many it is dead

	// Of a leased job. Lease is the index of the record that took it: no two are the same, later ones
	// are greater. So it is a fencing token for what the worker does elsewhere.
	Lease  uint64 `json:"lease,omitempty"`
	Until  int64  `json:"until,omitempty"`
	Worker string `json:"worker,omitempty"`
}

// A queue is the state machine.
//
// Index numbers serve as names: a job is named by its push, a lease by its take. Whoever has appended
// a command finds its outcome under the index that Append returned, and no outcomes need to be kept.
type queue struct {
	mu      sync.Mutex // guards all below: Apply writes it, requests read it
	now     int64      // the greatest time in any command: clocks of two Actives may differ
	index   uint64     // of the last record applied
	jobs    map[uint64]*job
	ready   ids             // a heap: the oldest first
	leased  map[uint64]*job // by lease
	acked   recent          // leases
	keys    recent          // of pushes
	count   counts
	changed chan struct{} // closed and replaced when a job becomes ready

	restored uint64 // where the snapshot ended from which this process began; not part of the state
}

// counts are totals since the queue began.
type counts struct {
	Pushed  uint64 `json:"pushed"`
	Acked   uint64 `json:"acked"`
	Taken   uint64 `json:"taken"`
	Expired uint64 `json:"expired"` // leases that ended without ack or nack
	Dead    uint64 `json:"died"`
}

func newQueue() *queue {
	return &queue{jobs: map[uint64]*job{}, leased: map[uint64]*job{}, changed: make(chan struct{})}
}

// Apply implements [ha.StateMachine].
func (q *queue) Apply(entries []ha.Entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		var c command
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		if err := q.applyLocked(e.Index, c); err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		q.index = e.Index
	}
	return nil
}

func (q *queue) applyLocked(index uint64, c command) error {
	q.now = max(q.now, c.Now)
	switch c.Op {
	case "push":
		if c.Key != "" {
			if _, again := q.keys.get(c.Key); again {
				return nil
			}
			q.keys.put(c.Key, index)
		}
		q.count.Pushed++
		q.jobs[index] = &job{ID: index, Body: c.Body}
		q.readyLocked(index)
	case "take":
		q.expireLocked()
		if len(q.ready) == 0 {
			return nil
		}
		j := q.jobs[heap.Pop(&q.ready).(uint64)]
		j.Attempts++
		j.Max, j.Lease, j.Until, j.Worker = c.Max, index, q.now+c.For, c.Worker
		q.leased[index] = j
		q.count.Taken++
	case "ack":
		if j := q.leased[c.Lease]; j != nil && j.ID == c.Job {
			delete(q.leased, c.Lease)
			delete(q.jobs, c.Job)
			q.acked.put(leaseName(c.Job, c.Lease), index)
			q.count.Acked++
		}
	case "nack":
		if j := q.leased[c.Lease]; j != nil && j.ID == c.Job {
			q.releaseLocked(j)
		}
	case "expire":
		q.expireLocked()
	case "retry":
		if j := q.jobs[c.Job]; j != nil && j.dead() {
			j.Attempts = 0
			q.readyLocked(j.ID)
		}
	default:
		return fmt.Errorf("unknown operation %q", c.Op)
	}
	return nil
}

// expireLocked takes back what was leased until now, in the order of the leases.
func (q *queue) expireLocked() {
	if !q.dueLocked(q.now) {
		return
	}
	for _, lease := range slices.Sorted(maps.Keys(q.leased)) {
		if j := q.leased[lease]; j.Until <= q.now {
			q.count.Expired++
			q.releaseLocked(j)
		}
	}
}

// releaseLocked ends a job's lease: it is ready again, or dead.
func (q *queue) releaseLocked(j *job) {
	delete(q.leased, j.Lease)
	j.Lease, j.Until, j.Worker = 0, 0, ""
	if j.dead() {
		q.count.Dead++
		return
	}
	q.readyLocked(j.ID)
}

func (q *queue) readyLocked(id uint64) {
	heap.Push(&q.ready, id)
	q.wakeLocked()
}

func (q *queue) wakeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// dead reports whether a job that is not leased will not be given out again.
func (j *job) dead() bool { return j.Lease == 0 && j.Attempts > 0 && j.Attempts >= j.Max }

// What requests ask on the Active, before and after they append.

// pushed returns the job that a push has made, or that one with the same key had made before.
func (q *queue) pushed(index uint64, key string) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if id, ok := q.keys.get(key); ok && key != "" {
		return id
	}
	return index
}

// taken returns the job that a take was given.
func (q *queue) taken(index uint64) (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j := q.leased[index]; j != nil {
		return *j, true
	}
	return job{}, false
}

// done reports whether a job was acked in a lease, now or before.
func (q *queue) done(id, lease uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.acked.get(leaseName(id, lease))
	return ok
}

// poll reports whether a job is ready, and returns a channel that is closed when one becomes so.
func (q *queue) poll(now int64) (ready bool, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) > 0 || q.dueLocked(now), q.changed
}

// due reports whether a lease has ended.
func (q *queue) due(now int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dueLocked(now)
}

func (q *queue) dueLocked(now int64) bool {
	for _, j := range q.leased {
		if j.Until <= now {
			return true
		}
	}
	return false
}

// wake has everyone look again who waits for a job.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakeLocked()
}

// size returns the number of jobs.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// stats are what GET /stats shows.
type stats struct {
	counts
	Ready    int    `json:"ready"`
	Leased   int    `json:"leased"`
	Dead     []job  `json:"dead"`
	Index    uint64 `json:"index"`    // of the last record applied
	Restored uint64 `json:"restored"` // where the snapshot ended that this process began with
}

func (q *queue) stats() stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := stats{counts: q.count, Ready: len(q.ready), Leased: len(q.leased), Dead: []job{}, Index: q.index, Restored: q.restored}
	if len(q.jobs) > s.Ready+s.Leased {
		for _, j := range q.jobs {
			if j.dead() {
				s.Dead = append(s.Dead, *j)
			}
		}
		slices.SortFunc(s.Dead, func(a, b job) int { return cmp.Compare(a.ID, b.ID) })
	}
	return s
}

// A snapshot is a copy of the state. It is made while Apply waits, and encoded while it goes on.
type snapshot struct {
	Now         int64
	Index       uint64
	Jobs        []job
	Acked, Keys recent
	Count       counts
}

// Snapshot implements [ha.StateMachine].
func (q *queue) Snapshot() (io.WriterTo, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := &snapshot{Now: q.now, Index: q.index, Acked: q.acked.clone(), Keys: q.keys.clone(), Count: q.count}
	for _, j := range q.jobs {
		s.Jobs = append(s.Jobs, *j)
	}
	return s, nil
}

// WriteTo implements [io.WriterTo].
func (s *snapshot) WriteTo(w io.Writer) (int64, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	return int64(n), err
}

// Restore implements [ha.StateMachine].
func (q *queue) Restore(r io.Reader) error {
	var s snapshot
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.now, q.index, q.restored, q.count, q.acked, q.keys = s.Now, s.Index, s.Index, s.Count, s.Acked, s.Keys
	q.jobs, q.leased, q.ready = map[uint64]*job{}, map[uint64]*job{}, nil
	for _, j := range s.Jobs {
		q.jobs[j.ID] = &j
		switch {
		case j.Lease != 0:
			q.leased[j.Lease] = &j
		case !j.dead():
			heap.Push(&q.ready, j.ID)
		}
	}
	q.wakeLocked()
	return nil
}

// A recent remembers at least the last maxRecent names that were put in, and at most twice as many.
type recent struct{ New, Old map[string]uint64 }

const maxRecent = 10_000

func (r *recent) put(name string, index uint64) {
	if r.New == nil || len(r.New) >= maxRecent {
		r.Old, r.New = r.New, map[string]uint64{}
	}
	r.New[name] = index
}

func (r *recent) get(name string) (uint64, bool) {
	if index, ok := r.New[name]; ok {
		return index, true
	}
	index, ok := r.Old[name]
	return index, ok
}

// clone shares Old, which does not change any more.
func (r *recent) clone() recent { return recent{New: maps.Clone(r.New), Old: r.Old} }

func leaseName(id, lease uint64) string { return fmt.Sprintf("%d/%d", id, lease) }

// ids is a heap of job ids.
type ids []uint64

func (h ids) Len() int           { return len(h) }
func (h ids) Less(i, j int) bool { return h[i] < h[j] }
func (h ids) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *ids) Push(x any)        { *h = append(*h, x.(uint64)) }
func (h *ids) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}
