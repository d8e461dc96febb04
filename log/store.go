package log

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// A Store is what this member holds of the log: recent entries in memory, older ones on disk down to
// the base, and how far the log is committed. The core reads it ([Source]), the writer extends it, and subscribers
// read it. Its methods may be called by any goroutine.
type Store struct {
	disk    Storage
	limit   int                  // of the bytes in memory
	turns   *turns               // of those who read much
	damaged func(*ChecksumError) // told of entries that somebody has written to; nil: nobody is. Any goroutine

	mu      sync.RWMutex // guards everything below
	hard    *raftpb.HardState
	snap    *raftpb.Snapshot // the newest checkpoint, without body
	saved   uint64           // the last record in it
	base    core.Base        // entries after it are readable
	terms   []core.TermRun   // of the entries after base, ascending
	first   uint64           // raft index of ents[0]
	ents    []*raftpb.Entry  // the recent ones
	bytes   int              // of those
	gone    int              // of those that were dropped, at most, and that the array of ents still holds
	pos     core.Position    // committed up to here
	changed chan struct{}    // closed and replaced when pos or base moves, if anybody waits for that
	awaited atomic.Bool      // somebody may: set under the lock for readers, taken back under the one for writers
	marks   []mark           // sparse, ascending
	parted  []parted         // of entries in ents, ascending
	err     error            // why no more will come

	// As the core last said.
	installing atomic.Bool   // a leader's checkpoint is being written or restored
	pinned     atomic.Uint64 // the log behind this raft index is needed

	partSize atomic.Int64 // of the parts in which somebody reads; 0: nobody does
	common   common       // what was put together for those
}

// A mark says that the batch at a raft index begins with a record: a place to begin a search from.
type mark struct {
	index, raft uint64
}

// markEvery is how many records lie between two marks, at least.
const markEvery = 4096

// NewStore takes over what the disk has recovered. The entries stay there until they are needed.
func NewStore(disk Storage, limit int) (*Store, error) {
	hard, snap, last, terms := disk.Recovered()
	if snap == nil {
		snap = core.Nobody() // a new member that joins a cluster
	}
	c, err := core.ParseCheckpoint(snap)
	if err != nil {
		return nil, err
	}
	held := disk.First()
	if held > c.Position.Raft+1 {
		return nil, fmt.Errorf("%w: the checkpoint at raft index %d counts on entries from there on, and the first held is %d",
			ErrFormat, c.Position.Raft, held)
	}
	// A checkpoint is made of committed entries, but the commit index may not have been written yet.
	hard = &raftpb.HardState{
		Term: new(hard.GetTerm()), Vote: new(hard.GetVote()), Commit: new(max(hard.GetCommit(), c.Position.Raft)),
	}
	w := &Store{
		disk: disk, limit: limit, turns: newTurns(), hard: hard, snap: snap, saved: c.Position.Index, base: c.Base, terms: c.Terms,
		first: last + 1, pos: c.Position, changed: make(chan struct{}),
	}
	w.pinned.Store(core.NothingPinned)
	if len(w.terms) == 0 || w.terms[0].From != c.Base.Raft {
		w.terms = slices.Insert(w.terms, 0, core.TermRun{From: c.Base.Raft, Term: c.Base.Term})
	}
	for first, term := range terms {
		w.termAt(first, term)
	}
	w.raiseBase(held)
	return w, nil
}

// raiseBase makes the base honest where the log was cut since the checkpoint was made: this member has fallen back to an
// older one than the one for which it was cut.
func (w *Store) raiseBase(held uint64) {
	if held <= w.base.Raft+1 {
		return
	}
	raftIndex := held - 1
	term, _ := w.Term(raftIndex)
	b := core.Base{Raft: raftIndex, Term: term, Index: w.pos.Index}
	w.base = b
	w.terms = termsAfter(w.terms, b)
	at, first, err := w.batchFrom(held, w.pos.Raft+1, w.pos.Epochs)
	switch {
	case err != nil: // what is before the checkpoint is not needed, and cannot be read
		w.base = core.Base{Raft: w.pos.Raft, Term: w.snap.GetMetadata().GetTerm(), Index: w.pos.Index}
		w.terms = termsAfter(w.terms, w.base)
	case at > 0:
		w.base.Index = first - 1
	}
}

// Persist makes writes durable, as a group and in order, and visible to readers. It runs beside the
// goroutine that steps the core; what has queued up goes into one sync (group commit).
func (w *Store) Persist(writes []*core.Write) (err error) {
	defer core.Catch("storage", &err)
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
			cp, err := core.ParseCheckpoint(wr.Snapshot)
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
		for n := len(ents); n > 0 && len(wr.Entries) > 0 && ents[n-1].GetIndex() >= wr.Entries[0].GetIndex(); n-- {
			ents = ents[: n-1 : n-1] // what follows goes into an array of its own: this one is raft's, and messages may still hold what is in it
		}
		if len(ents) == 0 {
			ents = slices.Clip(wr.Entries) // mostly all there is
		} else {
			ents = append(ents, wr.Entries...)
		}
	}
	return save()
}

// StageSnapshot keeps a snapshot that a leader sends, until raft wants it to be installed. It refuses what
// no leader sends and, so that they do not pile up on disk, any while another is being installed or
// restored: the leader tries again. Any goroutine may call it.
func (w *Store) StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error {
	cp, err := core.ParseCheckpoint(snap)
	if err != nil {
		return err
	}
	if cp.Base.Raft != cp.Position.Raft {
		return fmt.Errorf("%w: a snapshot that claims a log before it", ErrFormat)
	}
	if w.installing.Load() {
		return errInstalling
	}
	return w.disk.StageSnapshot(snap, body)
}

var errInstalling = errors.New("baton: another snapshot is being restored")

// Stepped lets readers see what a step of the core has decided. It comes before anything else that the step asks for is
// done.
func (w *Store) Stepped(c *core.Core, eff core.Effects) {
	if installing := c.Installing(); installing != w.installing.Load() {
		w.installing.Store(installing)
	}
	if pinned := c.Pinned(); pinned != w.pinned.Load() {
		w.pinned.Store(pinned)
	}
	for _, a := range eff.Applies {
		w.commit(a.Position, a.Accepted)
	}
}

// mayCut reports whether the log may be cut behind a raft index for all who catch up.
func (w *Store) mayCut(raftIndex uint64) bool { return raftIndex <= w.pinned.Load() }

// Fetch reads what is to be fetched, and verifies it, so that the core need not.
func (w *Store) Fetch(f *core.Fetch) core.Fetched {
	if f.Damage != nil {
		return w.repaired(f)
	}
	defer w.turns.take(false)()
	ents, err := w.Entries(f.Lo, f.Hi, f.MaxBytes)
	for _, e := range ents {
		if damage := core.Verify(e, "when they are read from disk"); damage != nil {
			return core.Fetched{Fetch: f, Err: damage}
		}
	}
	return core.Fetched{Fetch: f, Entries: ents, Err: err}
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
func (w *Store) append(ents []*raftpb.Entry) {
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
				w.bytes -= core.EntrySize(old)
			}
			w.ents, w.gone = slices.Clone(w.ents[:keep]), 0 // readers may hold the old array
			for len(w.terms) > 1 && w.terms[len(w.terms)-1].From >= i {
				w.terms = w.terms[:len(w.terms)-1]
			}
		}
		w.ents = append(w.ents, e)
		w.bytes += core.EntrySize(e)
		w.termAt(i, e.GetTerm())
	}
	w.trim()
}

// heldShare is which part of the limit entries may take that were dropped and that an array still holds.
const heldShare = 4

// trim drops the oldest entries that are beyond the limit. Those are freed when append next moves what is left to another array, since readers
// may hold this one. After many small entries that has room for as many more; where those are large, it is not waited for. w.mu is held.
func (w *Store) trim() {
	drop := 0
	for w.bytes > w.limit && drop < len(w.ents)-1 {
		size := core.EntrySize(w.ents[drop])
		w.bytes, w.gone = w.bytes-size, w.gone+size
		drop++
	}
	w.first += uint64(drop)
	w.ents = w.ents[drop:]
	w.dropParts()
	if w.gone > w.limit/heldShare {
		w.ents, w.gone = slices.Clone(w.ents), 0
	}
}

// termAt takes note of the term of entry i, which is the last one so far. w.mu is held.
func (w *Store) termAt(i, term uint64) {
	if w.terms[len(w.terms)-1].Term != term {
		w.terms = append(w.terms, core.TermRun{From: i, Term: term})
	}
}

// Entries returns durable entries [lo, hi), at least one and otherwise at most maxBytes, from memory
// or disk. The error is [ErrNotHeld], as it is, when lo is not held any more, even if the log was cut
// while it was read, and [ErrNotYet] when hi is beyond the end.
func (w *Store) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	ents, old, err := w.Recent(lo, hi, maxBytes)
	if err != nil || old == 0 {
		return ents, err
	}
	ents, err = w.disk.Entries(lo, min(hi, old), maxBytes)
	if err != nil && lo < w.disk.First() {
		err = core.ErrNotHeld // whatever the storage calls it; everybody else asks for this error
	}
	return core.Within(ents, maxBytes), err
}

// old reports whether entry i is on disk only.
func (w *Store) old(i uint64) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return i < w.first
}

// Recent implements [Source].
func (w *Store) Recent(lo, hi, maxBytes uint64) (ents []*raftpb.Entry, old uint64, err error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	switch next := w.first + uint64(len(w.ents)); {
	case lo <= w.base.Raft:
		return nil, 0, core.ErrNotHeld
	case hi > next || lo >= hi:
		return nil, 0, core.ErrNotYet
	case lo < w.first:
		return nil, w.first, nil
	}
	return core.Within(w.ents[lo-w.first:hi-w.first], maxBytes), 0, nil
}

// commit publishes how far the log is committed, with the batches that count, and wakes the subscribers.
func (w *Store) commit(p core.Position, accepted []*raftpb.Entry) {
	if len(accepted) > 0 {
		w.turns.live()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pos = p
	for _, e := range accepted {
		first := core.FirstRecord(e)
		if len(w.marks) == 0 || first >= w.marks[len(w.marks)-1].index+markEvery {
			w.marks = append(w.marks, mark{index: first, raft: e.GetIndex()})
		}
	}
	w.wakeLocked()
}

// changeLocked returns what is closed when pos or base moves.
func (w *Store) changeLocked() <-chan struct{} {
	if !w.awaited.Load() {
		w.awaited.Store(true)
	}
	return w.changed
}

// wakeLocked wakes those who wait for a change. w.mu is held for writing.
func (w *Store) wakeLocked() {
	if w.awaited.Load() {
		w.awaited.Store(false)
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// stop makes subscribers that have read everything return err.
func (w *Store) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		w.wakeLocked()
	}
}

// checkpointed takes note of a newer checkpoint of this member's own, with its last record, and of the base that the log
// is to be cut to.
func (w *Store) checkpointed(snap *raftpb.Snapshot, saved uint64, b core.Base) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if snap.GetMetadata().GetIndex() > w.snap.GetMetadata().GetIndex() {
		w.snap, w.saved = snap, saved
	}
	if b.Raft <= w.base.Raft {
		return
	}
	w.base = b
	w.terms = termsAfter(w.terms, b)
	if drop := int(b.Raft+1) - int(w.first); drop > 0 {
		drop = min(drop, len(w.ents))
		for _, e := range w.ents[:drop] {
			w.bytes -= core.EntrySize(e)
		}
		w.first += uint64(drop)
		w.ents, w.gone = slices.Clone(w.ents[drop:]), 0
		w.dropParts()
	}
	w.marks = slices.DeleteFunc(w.marks, func(m mark) bool { return m.raft <= b.Raft })
}

// installed replaces everything by a leader's checkpoint.
func (w *Store) installed(snap *raftpb.Snapshot, c core.Checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	meta := snap.GetMetadata()
	w.snap, w.saved = snap, c.Position.Index
	w.base = core.Base{Raft: meta.GetIndex(), Term: meta.GetTerm(), Index: c.Position.Index}
	w.terms = []core.TermRun{{From: meta.GetIndex(), Term: meta.GetTerm()}}
	w.first, w.ents, w.bytes, w.gone, w.marks = meta.GetIndex()+1, nil, 0, 0, nil
	w.parted = nil
	w.wakeLocked()
}

// termsAfter returns the runs that tell the terms of b and of what follows it.
func termsAfter(terms []core.TermRun, b core.Base) []core.TermRun {
	i := sort.Search(len(terms), func(i int) bool { return terms[i].From > b.Raft })
	return append([]core.TermRun{{From: b.Raft, Term: b.Term}}, terms[i:]...)
}

// termsUpTo returns the runs between b and a raft index.
func (w *Store) termsUpTo(b core.Base, raftIndex uint64) []core.TermRun {
	w.mu.RLock()
	defer w.mu.RUnlock()
	terms := termsAfter(w.terms, b)
	i := sort.Search(len(terms), func(i int) bool { return terms[i].From > raftIndex })
	return slices.Clone(terms[:i])
}

// position returns how far the log is known to be committed.
func (w *Store) position() core.Position {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.pos
}

// oldest returns where the log that is kept begins.
func (w *Store) oldest() core.Base {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.base
}

// extent returns the first record that is held, and the last one in the newest checkpoint.
func (w *Store) extent() (first, saved uint64) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return firstRecord(w.base, w.pos), w.saved
}

// firstRecord returns the first record that can be read from a base on.
func firstRecord(b core.Base, pos core.Position) uint64 {
	if len(pos.Epochs) > 0 && pos.Epochs[0].Epoch > 1 { // the history says which records count
		return max(b.Index+1, pos.Epochs[0].First)
	}
	return b.Index + 1
}

// latest returns the newest checkpoint.
func (w *Store) latest() *raftpb.Snapshot {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.snap
}

// InitialState implements [Source].
func (w *Store) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return w.hard, w.snap.GetMetadata().GetConfState(), nil
}

// Term implements [Source].
func (w *Store) Term(i uint64) (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if i < w.base.Raft {
		return 0, core.ErrNotHeld
	}
	if i >= w.first+uint64(len(w.ents)) {
		return 0, core.ErrNotYet
	}
	j := sort.Search(len(w.terms), func(j int) bool { return w.terms[j].From > i })
	return w.terms[j-1].Term, nil
}

// LastIndex implements [Source].
func (w *Store) LastIndex() (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.first + uint64(len(w.ents)) - 1, nil
}

// FirstIndex implements [Source].
func (w *Store) FirstIndex() (uint64, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.base.Raft + 1, nil
}

// Snapshot implements [Source].
func (w *Store) Snapshot() (*raftpb.Snapshot, error) { return w.latest(), nil }
