package log

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/mutant"
)

// A window is what this member holds of the log: recent entries in memory, older ones on disk down to
// the base, and how far the log is committed. Raft reads it, by way of the shelf (fetch.go), the writer
// extends it, and subscribers read it.
type window struct {
	disk    Storage
	limit   int                  // of the bytes in memory
	damaged func(*ChecksumError) // told of entries that somebody has written to; nil: nobody is. Any goroutine

	mu      sync.RWMutex // guards everything below
	hard    *raftpb.HardState
	members []Member
	snap    *raftpb.Snapshot // the newest checkpoint, without body
	base    base             // entries after it are readable
	terms   []termRun        // of the entries after base, ascending
	first   uint64           // raft index of ents[0]
	ents    []*raftpb.Entry  // the recent ones
	bytes   int
	pos     position      // committed up to here
	changed chan struct{} // closed and replaced when pos or base moves
	marks   []mark        // sparse, ascending
	err     error         // why no more will come

	installing bool   // a leader's checkpoint is being written or restored
	pinned     uint64 // the log behind this raft index is needed (pin.go)
}

// A mark says that the batch at a raft index begins with a record: a place to begin a search from.
type mark struct {
	index, raft uint64
}

// markEvery is how many records lie between two marks, at least.
const markEvery = 4096

// newWindow takes over what the disk has recovered. The entries stay there until they are needed.
func newWindow(disk Storage, limit int) (*window, error) {
	hard, snap, last, terms := disk.Recovered()
	c, err := parseCheckpoint(snap)
	if err != nil {
		return nil, err
	}
	held := disk.First()
	if held > c.Position.Raft+1 || mutant.On(mutant.NoFallback) && held > c.Base.Raft+1 {
		return nil, fmt.Errorf("%w: the checkpoint at raft index %d counts on entries from there on, and the first held is %d",
			ErrFormat, c.Position.Raft, held)
	}
	// A checkpoint is made of committed entries, but the commit index may not have been written yet.
	hard = &raftpb.HardState{
		Term: new(hard.GetTerm()), Vote: new(hard.GetVote()), Commit: new(max(hard.GetCommit(), c.Position.Raft)),
	}
	w := &window{
		disk: disk, limit: limit, hard: hard, members: c.Members, snap: snap, base: c.Base, terms: c.Terms,
		first: last + 1, pos: c.Position, changed: make(chan struct{}), pinned: nothingPinned,
	}
	if len(w.terms) == 0 || w.terms[0].From != c.Base.Raft {
		w.terms = slices.Insert(w.terms, 0, termRun{From: c.Base.Raft, Term: c.Base.Term})
	}
	for first, term := range terms {
		w.termAt(first, term)
	}
	w.raiseBase(held)
	return w, nil
}

// raiseBase makes the base honest where the log was cut since the checkpoint was made: this member has fallen back to an
// older one than the one for which it was cut.
func (w *window) raiseBase(held uint64) {
	if held <= w.base.Raft+1 {
		return
	}
	raftIndex := held - 1
	term, _ := w.Term(raftIndex)
	b := base{Raft: raftIndex, Term: term, Index: w.pos.Index}
	w.base = b
	w.terms = termsAfter(w.terms, b)
	at, first, err := w.batchFrom(held, w.pos.Raft+1, w.pos.Epochs)
	switch {
	case err != nil: // what is before the checkpoint is not needed, and cannot be read
		w.base = base{Raft: w.pos.Raft, Term: w.snap.GetMetadata().GetTerm(), Index: w.pos.Index}
		w.terms = termsAfter(w.terms, w.base)
	case at > 0:
		w.base.Index = first - 1
	}
}

// Persist makes writes durable, as a group and in order, and visible to readers. It runs beside the
// goroutine that steps the core; what has queued up goes into one sync (group commit).
func (c *Core) Persist(writes []*Write) (err error) {
	defer catch("storage", &err)
	return c.store.persist(writes)
}

func (w *window) persist(writes []*Write) error {
	var hard *raftpb.HardState
	var ents []*raftpb.Entry // contiguous
	save := func() error {
		if hard == nil && len(ents) == 0 {
			return nil
		}
		if err := w.disk.Save(hard, ents); err != nil {
			return err
		}
		w.append(ents)
		hard, ents = nil, nil
		return nil
	}
	for _, wr := range writes {
		if wr.Snapshot != nil {
			if err := save(); err != nil {
				return err
			}
			cp, err := parseCheckpoint(wr.Snapshot)
			if err != nil {
				return err
			}
			at := wr.Snapshot.GetMetadata().GetIndex()
			if err := w.disk.InstallSnapshot(wr.Snapshot, committedAt(wr.Hard, at)); err != nil {
				return err
			}
			w.installed(wr.Snapshot, cp)
		}
		if wr.Hard != nil {
			hard = wr.Hard
		}
		// What a later write of the group overwrites need not be written at all.
		for n := len(ents); n > 0 && len(wr.Entries) > 0 && ents[n-1].GetIndex() >= wr.Entries[0].GetIndex() && !mutant.On(mutant.MergeOverlap); n-- {
			ents = ents[:n-1]
		}
		ents = append(ents, wr.Entries...)
	}
	return save()
}

// StageSnapshot keeps a snapshot that a leader sends, until raft wants it to be installed. It refuses what
// no leader sends and, so that they do not pile up on disk, any while another is being installed or
// restored: the leader tries again. Any goroutine may call it.
func (c *Core) StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error {
	cp, err := parseCheckpoint(snap)
	if err != nil {
		return err
	}
	if cp.Base.Raft != cp.Position.Raft {
		return fmt.Errorf("%w: a snapshot that claims a log before it", ErrFormat)
	}
	if c.store.isInstalling() {
		return errInstalling
	}
	return c.store.disk.StageSnapshot(snap, body)
}

var errInstalling = errors.New("baton: another snapshot is being restored")

func (w *window) setInstalling(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.installing = on
}

func (w *window) isInstalling() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.installing && !mutant.On(mutant.StackedSnapshots)
}

// committedAt returns a hard state, nil if there is none, with a commit index of at most the one given: the
// entries behind a snapshot that are committed already are written after it.
func committedAt(hard *raftpb.HardState, index uint64) *raftpb.HardState {
	if hard.GetCommit() <= index {
		return hard
	}
	return &raftpb.HardState{Term: hard.Term, Vote: hard.Vote, Commit: &index}
}

// append adds entries that are durable, replacing what they overwrite.
func (w *window) append(ents []*raftpb.Entry) {
	if len(ents) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range ents {
		i, next := e.GetIndex(), w.first+uint64(len(w.ents))
		if i < next { // a new leader overwrites an uncommitted tail
			keep := uint64(0)
			if i > w.first {
				keep = i - w.first
			} else {
				w.first = i
			}
			for _, old := range w.ents[keep:] {
				w.bytes -= entrySize(old)
			}
			w.ents = slices.Clone(w.ents[:keep]) // readers may hold the old array
			for len(w.terms) > 1 && w.terms[len(w.terms)-1].From >= i {
				w.terms = w.terms[:len(w.terms)-1]
			}
		}
		w.ents = append(w.ents, e)
		w.bytes += entrySize(e)
		w.termAt(i, e.GetTerm())
	}
	drop := 0
	for w.bytes > w.limit && drop < len(w.ents)-1 {
		w.bytes -= entrySize(w.ents[drop])
		drop++
	}
	if drop > 0 {
		w.first += uint64(drop)
		w.ents = w.ents[drop:] // what was dropped is freed when append next moves the slice
	}
}

// termAt takes note of the term of entry i, which is the last one so far. w.mu is held.
func (w *window) termAt(i, term uint64) {
	if w.terms[len(w.terms)-1].Term != term {
		w.terms = append(w.terms, termRun{From: i, Term: term})
	}
}

// entries returns durable entries [lo, hi), at least one and otherwise at most maxBytes, from memory
// or disk. The error is raft.ErrCompacted, as it is, when lo is not held any more, even if the log was cut
// while it was read, and raft.ErrUnavailable when hi is beyond the end.
func (w *window) entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	ents, old, err := w.recent(lo, hi, maxBytes)
	if err != nil || old == 0 {
		return ents, err
	}
	ents, err = w.disk.Entries(lo, min(hi, old), maxBytes)
	if err != nil && lo < w.disk.First() {
		err = raft.ErrCompacted // whatever the storage calls it; everybody else asks for this error
	}
	return within(ents, maxBytes), err
}

// recent returns entries as entries does if lo is in memory. If it is on disk only, it returns none, and where the entries
// end that are.
func (w *window) recent(lo, hi, maxBytes uint64) (ents []*raftpb.Entry, old uint64, err error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	switch next := w.first + uint64(len(w.ents)); {
	case lo <= w.base.Raft:
		return nil, 0, raft.ErrCompacted
	case hi > next || lo >= hi:
		return nil, 0, raft.ErrUnavailable
	case lo < w.first:
		return nil, w.first, nil
	}
	return within(w.ents[lo-w.first:hi-w.first], maxBytes), 0, nil
}

// within returns so many of the first entries that they take maxBytes of memory at most, but one at least.
func within(ents []*raftpb.Entry, maxBytes uint64) []*raftpb.Entry {
	size := uint64(0)
	for i, e := range ents {
		if size += uint64(entrySize(e)); size > maxBytes && i > 0 {
			return ents[:i:i]
		}
	}
	return ents[:len(ents):len(ents)]
}

// entrySize is about how many bytes of memory an entry takes: for one with a small record most are in what is around it.
func entrySize(e *raftpb.Entry) int { return len(e.GetData()) + entryOverhead }

const entryOverhead = 160

// commit publishes how far the log is committed and wakes the subscribers.
func (w *window) commit(p position, marks []mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pos = p
	for _, m := range marks {
		if len(w.marks) == 0 || m.index >= w.marks[len(w.marks)-1].index+markEvery {
			w.marks = append(w.marks, m)
		}
	}
	w.wakeLocked()
}

func (w *window) wakeLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// stop makes subscribers that have read everything return err.
func (w *window) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		w.wakeLocked()
	}
}

// checkpointed takes note of a newer checkpoint of this member's own, and of the base that the log
// is to be cut to.
func (w *window) checkpointed(snap *raftpb.Snapshot, b base) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if snap.GetMetadata().GetIndex() > w.snap.GetMetadata().GetIndex() {
		w.snap = snap
	}
	if b.Raft <= w.base.Raft {
		return
	}
	w.base = b
	w.terms = termsAfter(w.terms, b)
	if drop := int(b.Raft+1) - int(w.first); drop > 0 {
		drop = min(drop, len(w.ents))
		for _, e := range w.ents[:drop] {
			w.bytes -= entrySize(e)
		}
		w.first += uint64(drop)
		w.ents = slices.Clone(w.ents[drop:])
	}
	w.marks = slices.DeleteFunc(w.marks, func(m mark) bool { return m.raft <= b.Raft })
}

// installed replaces everything by a leader's checkpoint.
func (w *window) installed(snap *raftpb.Snapshot, c checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	meta := snap.GetMetadata()
	w.snap = snap
	w.base = base{Raft: meta.GetIndex(), Term: meta.GetTerm(), Index: c.Position.Index}
	w.terms = []termRun{{From: meta.GetIndex(), Term: meta.GetTerm()}}
	w.members = c.Members
	w.first, w.ents, w.bytes, w.marks = meta.GetIndex()+1, nil, 0, nil
	w.wakeLocked()
}

// termsAfter returns the runs that tell the terms of b and of what follows it.
func termsAfter(terms []termRun, b base) []termRun {
	i := sort.Search(len(terms), func(i int) bool { return terms[i].From > b.Raft })
	return append([]termRun{{From: b.Raft, Term: b.Term}}, terms[i:]...)
}

// termsUpTo returns the runs between b and a raft index.
func (w *window) termsUpTo(b base, raftIndex uint64) []termRun {
	w.mu.RLock()
	defer w.mu.RUnlock()
	terms := termsAfter(w.terms, b)
	i := sort.Search(len(terms), func(i int) bool { return terms[i].From > raftIndex })
	return slices.Clone(terms[:i])
}

// oldest returns where the log that is kept begins.
func (w *window) oldest() base {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.base
}

// latest returns the newest checkpoint.
func (w *window) latest() *raftpb.Snapshot {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.snap
}

// voters returns the members.
func (w *window) voters() []Member {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.members
}

// The methods of raft.Storage but Entries, which is the shelf's. They run on the goroutine that owns the raft node.

// InitialState implements [raft.Storage].
func (w *window) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return w.hard, w.snap.GetMetadata().GetConfState(), nil
}

// Term implements [raft.Storage].
func (w *window) Term(i uint64) (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if i < w.base.Raft {
		return 0, raft.ErrCompacted
	}
	if i >= w.first+uint64(len(w.ents)) {
		return 0, raft.ErrUnavailable
	}
	j := sort.Search(len(w.terms), func(j int) bool { return w.terms[j].From > i })
	return w.terms[j-1].Term, nil
}

// LastIndex implements [raft.Storage].
func (w *window) LastIndex() (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.first + uint64(len(w.ents)) - 1, nil
}

// FirstIndex implements [raft.Storage].
func (w *window) FirstIndex() (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.base.Raft + 1, nil
}

// Snapshot implements [raft.Storage].
func (w *window) Snapshot() (*raftpb.Snapshot, error) { return w.latest(), nil }
