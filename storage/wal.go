package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// Options says how to open a directory.
type Options struct {
	// Identity must be complete for a new directory. For an existing one Cluster, Member and ID must be the same, and
	// Incarnation too unless it is zero.
	Identity Identity
	// Boot is the snapshot with which a new directory starts, together with HardState{Term: its term, Commit: its index}.
	// Nil starts with nothing at all, as a member does that joins. Ignored for an existing directory.
	Boot *raftpb.Snapshot
	// Logger is for warnings of etcd's WAL and about repairs. Nil means slog.Default().
	Logger *slog.Logger
	// SegmentSize is the size in bytes at which a new segment is begun; zero means 64 MB. etcd keeps it in a global
	// variable: while a WAL is open, all others of the process get the same one, and Open refuses another non-zero value.
	SegmentSize int64
}

// WAL is one member's stable storage: raft's log, hard state and snapshots. Open makes one. All methods may be called
// concurrently; Save, SaveSnapshot and InstallSnapshot are put in order by the caller where the order matters to raft.
type WAL struct {
	dir    string
	id     Identity
	logger *slog.Logger
	lock   *os.File
	mark   *mark
	closed atomic.Bool
	failed atomic.Pointer[error] // first failure: nothing is written after it

	stop    chan struct{}
	stopped chan struct{}
	closing sync.Once
	closeEr error

	idMu sync.Mutex // guards body
	body *identityBody

	snapMu sync.Mutex // held while a snapshot is written, staged or installed; taken before mu
	snaps  []snapID   // in force, newest first; changed under snapMu and indexMu

	mu        sync.Mutex // guards what follows; taken before indexMu
	wal       *wal.WAL
	view      *view
	enti      uint64    // what etcd names the next segment after, less one
	stated    bool      // etcd's WAL knows the hard state and puts it in front of a new segment
	pending   []written // records that etcd's WAL may still hold in memory
	recovered *recovered

	indexMu  sync.Mutex // guards what follows: what Entries sees
	segs     []*segment // oldest first; the slice is replaced, never changed
	last     uint64     // last durable entry
	floor    uint64
	rewrites uint64 // counts the times at which entries were superseded
}

type recovered struct {
	hs   *raftpb.HardState
	snap *raftpb.Snapshot
	ents []*raftpb.Entry
}

// Recovered returns what the previous run left: the hard state, the snapshot (nil when there is none; its body is
// OpenSnapshot's) and the entries after it. They are the caller's. After the first Save it returns nothing.
func (w *WAL) Recovered() (*raftpb.HardState, *raftpb.Snapshot, []*raftpb.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.recovered == nil {
		return &raftpb.HardState{}, nil, nil
	}
	return w.recovered.hs, w.recovered.snap, w.recovered.ents
}

// Save makes the hard state (nil or empty: unchanged) and the entries durable, with one fsync. A mere change of the commit
// index is not synced. Entries may overwrite earlier ones that are not committed; what follows them is gone. hs and ents
// stay the caller's. After an error nothing is written any more, and every later call returns that error: an fsync that
// failed is never tried again.
func (w *WAL) Save(hs *raftpb.HardState, ents []*raftpb.Entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	w.recovered = nil
	return w.fail(w.saveLocked(hs, ents))
}

func (w *WAL) saveLocked(p *raftpb.HardState, ents []*raftpb.Entry) error {
	hs, has := hardState{p.GetTerm(), p.GetVote(), p.GetCommit()}, true
	if hs == (hardState{}) {
		hs, has = w.view.hs, !w.stated && w.view.hs != hardState{}
	}
	if !has && len(ents) == 0 {
		return nil
	}
	if hs.term == 0 {
		return errors.New("storage: entries before the first hard state")
	}
	if err := w.view.check(hs, has, ents); err != nil {
		return fmt.Errorf("storage: save refused: %w", err)
	}
	var state *raftpb.HardState
	full := make([]*raftpb.Entry, len(ents))
	for i, e := range ents {
		full[i] = fullEntry(e)
		w.pending = append(w.pending, written{wal.EntryType, e.GetIndex(), recordMost + int64(len(e.GetData()))})
	}
	mustSync := len(ents) > 0
	if has {
		state = hs.proto()
		w.pending = append(w.pending, written{typ: wal.StateType, most: recordMost})
		mustSync = mustSync || !w.stated || hs.term != w.view.hs.term || hs.vote != w.view.hs.vote
	}
	if len(ents) > 0 {
		w.supersede(ents[0].GetIndex())
	}
	if err := guard("save", func() error { return w.wal.Save(state, full) }); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	for _, e := range ents {
		if err := w.view.entry(e.GetIndex(), e.GetTerm()); err != nil {
			return err
		}
	}
	if has {
		if err := w.view.state(hs); err != nil {
			return err
		}
		w.stated = true
	}
	if len(ents) > 0 {
		w.enti = ents[len(ents)-1].GetIndex()
	}
	cut, err := w.cutLocked()
	if err != nil {
		return err
	}
	if !mustSync && !cut {
		return nil
	}
	if err := w.durableLocked(); err != nil {
		return err
	}
	if cut {
		return w.mark.sync()
	}
	return nil
}

// supersede hides the entries from index on, before they are overwritten.
func (w *WAL) supersede(index uint64) {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	if index <= w.last {
		w.last = index - 1
		w.rewrites++
	}
}

// cutLocked finds out whether etcd's WAL has begun a new segment. All that was pending is in the old one then, durable.
func (w *WAL) cutLocked() (bool, error) {
	tail := w.segs[len(w.segs)-1]
	most := tail.end // only Save and what excludes it change that
	for _, r := range w.pending {
		most += r.most
	}
	if most < wal.SegmentSizeBytes {
		return false, nil
	}
	next := newSegment(filepath.Join(w.dir, walName), tail.seq+1, w.enti+1)
	f, err := os.Open(next.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("storage: %w", err)
	}
	next.f, next.loaded, next.headed, next.commit = f, true, true, w.view.hs.commit
	if err := tail.advance(w.pending); err != nil {
		f.Close()
		return false, err
	}
	w.pending = nil
	for _, typ := range next.headTypes() {
		w.pending = append(w.pending, written{typ: typ, most: recordMost})
	}
	tail.mu.Lock()
	next.crc = tail.crc
	err = tail.f.Close()
	tail.f = nil
	tail.mu.Unlock()
	w.indexMu.Lock()
	w.segs = append(w.segs[:len(w.segs):len(w.segs)], next)
	w.indexMu.Unlock()
	if err != nil {
		return false, fmt.Errorf("storage: close segment: %w", err)
	}
	return true, nil
}

// durableLocked takes note that everything pending has been synced: in the index, for Entries, and in the mark.
func (w *WAL) durableLocked() error {
	tail := w.segs[len(w.segs)-1]
	if err := tail.advance(w.pending); err != nil {
		return err
	}
	w.pending = w.pending[:0]
	w.indexMu.Lock()
	w.last, w.floor = w.view.last, max(w.floor, w.view.floor)
	w.indexMu.Unlock()
	return w.mark.write(w.markStateLocked())
}

func (w *WAL) markStateLocked() markState {
	tail := w.segs[len(w.segs)-1]
	return markState{
		seq: tail.seq, offset: uint64(tail.end), crc: tail.crc, hs: w.view.hs,
		lastTerm: w.view.lastTerm(), last: w.view.last, snap: w.view.snap, floor: max(w.floor, w.view.floor),
	}
}

// Compact deletes the segments that hold nothing but entries below index, or below the newest snapshot if that is lower.
func (w *WAL) Compact(index uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	index = min(index, w.view.snap)
	keep := len(w.segs) - 1
	for keep > 0 && w.segs[keep].index > index {
		keep--
	}
	if keep == 0 {
		return nil
	}
	drop := w.segs[:keep]
	err := guard("release segments", func() error { return w.wal.ReleaseLockTo(w.segs[keep].index + 1) })
	if err != nil {
		return w.fail(fmt.Errorf("storage: %w", err))
	}
	w.indexMu.Lock()
	w.segs = append([]*segment(nil), w.segs[keep:]...)
	w.indexMu.Unlock()
	for _, s := range drop { // oldest first: an interruption leaves no gap
		if err := os.Remove(s.path); err != nil {
			return w.fail(fmt.Errorf("storage: delete segment: %w", err))
		}
	}
	return nil
}

// usable returns why nothing may be written any more.
func (w *WAL) usable() error {
	if err := w.failed.Load(); err != nil {
		return *err
	}
	if w.closed.Load() {
		return ErrClosed
	}
	return nil
}

// fail makes err stick, if it is one and the first.
func (w *WAL) fail(err error) error {
	if err == nil {
		return nil
	}
	w.failed.CompareAndSwap(nil, &err)
	return *w.failed.Load()
}

// Close makes everything durable and releases the directory. It waits for the calls that are under way; a snapshot that is
// being written is abandoned. Closing again returns the same.
func (w *WAL) Close() error {
	w.closing.Do(func() {
		w.closed.Store(true)
		close(w.stop)
		<-w.stopped
		w.snapMu.Lock()
		defer w.snapMu.Unlock()
		w.idMu.Lock()
		defer w.idMu.Unlock()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.closeEr = w.closeLocked()
	})
	return w.closeEr
}

func (w *WAL) closeLocked() error {
	var err error
	if p := w.failed.Load(); p != nil {
		err = *p
	} else {
		err = w.fail(w.finishLocked())
	}
	cerr := guard("close", w.wal.Close)
	if cerr != nil { // it stops at a failed sync; the second call closes the files
		_ = guard("close", w.wal.Close)
	}
	tail := w.segs[len(w.segs)-1]
	cerr = errors.Join(cerr, tail.f.Close(), w.mark.f.Close(), w.lock.Close())
	releaseSegmentSize()
	if err == nil && cerr != nil {
		err = fmt.Errorf("storage: %w", cerr)
	}
	return err
}

// finishLocked syncs the WAL and puts the same mark in both slots.
func (w *WAL) finishLocked() error {
	if err := guard("sync", w.wal.Sync); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	if err := w.durableLocked(); err != nil {
		return err
	}
	if err := w.mark.write(w.markStateLocked()); err != nil {
		return err
	}
	return w.mark.sync()
}
