package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/vfs"
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
	// Unborn makes a new directory one that is not born until Bear. Ignored for an existing directory.
	Unborn bool
	// Logger is for warnings about repairs. Nil means slog.Default().
	Logger *slog.Logger
	// SegmentSize is the size in bytes at which a new segment is begun; zero means 64 MiB.
	SegmentSize int64
	// FS is the file system that the directory is on; nil means that of the operating system. Tests put in another one.
	FS vfs.FS
	// MinFree is how many bytes must be free in the file system for records to be taken: checkpoints need some, and where a file
	// system copies on write, blocks that were reserved are not. Zero means 16 MiB.
	MinFree int64
	// Reserve is the size in bytes of a file that takes space for when the disk is full (while [WAL.Watch] watches it). Zero means 16 MiB, below
	// zero that there is none.
	Reserve int64

	content *Content // of a new directory, by Form
}

// WAL is one member's stable storage: raft's log, hard state and snapshots. Open makes one. All methods may be called
// concurrently; Save, SaveSnapshot and InstallSnapshot are put in order by the caller where the order matters to raft.
type WAL struct {
	disk        disk
	dir         string
	id          Identity
	segmentSize int64
	logger      *slog.Logger
	lock        vfs.File
	mark        *mark
	closed      atomic.Bool
	failed      atomic.Pointer[error] // first failure: nothing is written after it
	tally       tally
	yielding    yielding

	stop    chan struct{}
	workers sync.WaitGroup
	closing sync.Once
	closeEr error

	idMu sync.Mutex                   // held while another body is written
	body atomic.Pointer[identityBody] // never changed; readers do not wait for the disk

	snapMu     sync.Mutex      // held while a snapshot gets its name or comes into force, never while one is written; taken before mu
	snaps      []snapID        // in force, newest first; changed under snapMu and indexMu
	distrusted snapID          // in force, but no fallback; changed under snapMu
	parts      map[snapID]bool // being received under the name by which they are found again

	sweeping chan struct{} // 1: snapshots are to be deleted that are not needed any more

	cutMu   sync.Mutex // held by Compact, guards dropped; taken before mu
	dropped []*segment // out of the index, not deleted yet

	mu        sync.Mutex // guards what follows; taken before indexMu
	out       *appender  // of the last segment
	view      *view
	pending   []place // of the entries that are not durable yet
	recovered *recovered
	cutAt     int64 // no new segment is tried before the last one has this size

	supply  supply
	watched watched
	minFree int64
	reserve *reserve // of Watch

	indexMu   sync.Mutex // guards what follows: what Entries sees
	unpinned  *sync.Cond // a segment has no readers any more
	segs      []*segment // oldest first; the slice is replaced, never changed
	last      uint64     // last durable entry
	floor     uint64
	snapSizes map[snapID]int64 // of the files in force
	rewrites  uint64           // counts the times at which entries were superseded

	readers readers
}

type recovered struct {
	hs    *raftpb.HardState
	snap  *raftpb.Snapshot
	last  uint64
	terms []termRun
}

// Recovered returns what the previous run left: the hard state, the snapshot (nil when there is none; its body is
// OpenSnapshot's), the index of the last entry (that of the snapshot if no entry follows it), and the terms of the
// entries after the snapshot as runs: where each begins, and its term. Entries reads the entries; none is kept. What is
// returned is the caller's. After the first Save it returns nothing.
func (w *WAL) Recovered() (hs *raftpb.HardState, snap *raftpb.Snapshot, last uint64, terms iter.Seq2[uint64, uint64]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.recovered
	if r == nil {
		r = &recovered{hs: &raftpb.HardState{}}
	}
	return r.hs, r.snap, r.last, func(yield func(first, term uint64) bool) {
		for _, t := range r.terms {
			if !yield(t.first, t.term) {
				return
			}
		}
	}
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
	hs := hardState{p.GetTerm(), p.GetVote(), p.GetCommit()}
	has := hs != hardState{}
	if !has {
		if hs = w.view.hs; len(ents) == 0 {
			return nil
		}
	}
	if hs.term == 0 {
		return errors.New("storage: entries before the first hard state")
	}
	if err := w.view.check(hs, has, ents); err != nil {
		return fmt.Errorf("storage: save refused: %w", err)
	}
	promised := hs.term != w.view.hs.term || hs.vote != w.view.hs.vote
	mustSync := len(ents) > 0 || promised
	if len(ents) > 0 {
		w.supersede(ents[0].GetIndex())
	}
	w.beginLocked()
	for _, e := range ents {
		w.pending = append(w.pending, place{e.GetIndex(), w.out.end(), w.out.crc})
		w.out.entry(e)
		if err := w.view.entry(e.GetIndex(), e.GetTerm()); err != nil {
			return err
		}
	}
	if has {
		w.out.state(hs)
		if err := w.view.state(hs); err != nil {
			return err
		}
	}
	if !mustSync && len(w.out.b) < maxUnsynced {
		return nil
	}
	var err error
	if promised {
		err = w.promiseLocked(len(ents) == 0)
	} else {
		err = w.syncLocked()
	}
	if err != nil {
		return err
	}
	w.tally.saves.Add(1)
	if w.out.end() < min(w.segmentSize, w.out.room.size) { // on a small disk it may have got less
		return nil
	}
	return w.cutLocked()
}

// Written counts the bytes that were written to the log. It grows while a large Save is under way, and does not block.
func (w *WAL) Written() uint64 { return w.tally.written.Load() }

// maxUnsynced bounds the states that wait in memory for the next sync.
const maxUnsynced = 64 << 10

// supersede hides the entries from index on, before they are overwritten.
func (w *WAL) supersede(index uint64) {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	if index <= w.last {
		w.last = index - 1
		w.rewrites++
	}
}

// replace hides all entries, before the snapshot at index takes their place.
func (w *WAL) replace(index uint64) {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	w.last, w.floor = index, max(w.floor, index)
	w.rewrites++
}

// cutLocked ends the last segment, all of which is durable, and begins the next one. A crash in between leaves either a last
// segment without room, or the next one complete. Where there is no space or no descriptor for the next one, the last one
// grows on: that costs nothing but the plan.
func (w *WAL) cutLocked() error {
	if w.out.end() < w.cutAt {
		return nil
	}
	old := w.segs[len(w.segs)-1]
	dir := filepath.Join(w.dir, walName)
	tmp := filepath.Join(dir, nextName)
	out, err := w.nextOut(tmp)
	if scarce(err) {
		w.cutAt = w.out.end() + w.segmentSize/16
		return nil
	}
	if err != nil {
		return fmt.Errorf("storage: new segment: %w", err)
	}
	next := newSegment(w.disk, dir, old.seq+1, w.view.lastEntry+1)
	next.loaded, next.headed, next.commit = true, true, w.view.hs.commit
	err = w.out.finish()
	w.out, w.cutAt = out, 0 // on failure too: Close closes it
	if err != nil {
		return fmt.Errorf("storage: finish segment: %w", err)
	}
	if err := w.nextLocked(tmp, next.path); err != nil {
		return fmt.Errorf("storage: new segment: %w", err)
	}
	old.finish()
	next.grow(w.out, nil)
	w.indexMu.Lock()
	w.segs = append(w.segs[:len(w.segs):len(w.segs)], next)
	w.indexMu.Unlock()
	w.tally.cuts.Add(1)
	w.supply.order(w.out.room)
	w.watched.setTail(next.path, w.out.f.File)
	if err := w.mark.write(w.markStateLocked()); err != nil {
		return err
	}
	return w.mark.sync()
}

// beginLocked is called before each record that is appended to the last segment.
func (w *WAL) beginLocked() { w.out.begin(w.id.Incarnation, w.segs[len(w.segs)-1].seq) }

// nextOut opens the file of the next segment.
func (w *WAL) nextOut(tmp string) (*appender, error) {
	ready, err := w.supply.take(tmp)
	if err != nil {
		return nil, err
	}
	out, err := w.disk.newAppender(tmp, 0, w.out.crc, ready, &w.tally)
	if err != nil {
		w.supply.putBack(tmp)
		return nil, err
	}
	return out, nil
}

// nextLocked writes the head of a segment, which then gets its name.
func (w *WAL) nextLocked(tmp, path string) error {
	w.out.chain()
	w.out.metadata(w.id)
	w.out.state(w.view.hs)
	if _, err := w.out.sync(); err != nil {
		return err
	}
	if err := w.disk.Rename(tmp, path); err != nil {
		return err
	}
	return w.watched.wal.Sync() // needs no descriptor
}

// syncLocked makes everything durable and takes note of it: in the index, for Entries, and in the mark.
func (w *WAL) syncLocked() error {
	bytes, began := w.out.unsynced(), time.Now()
	low, err := w.out.sync()
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	now := time.Now()
	w.yielding.wrote(bytes, now.Sub(began), now)
	if low {
		w.supply.order(w.out.room)
	}
	w.segs[len(w.segs)-1].grow(w.out, w.pending)
	w.pending = w.pending[:0]
	w.indexMu.Lock()
	w.last, w.floor = w.view.last, max(w.floor, w.view.floor)
	w.indexMu.Unlock()
	return w.mark.write(w.markStateLocked())
}

// promiseLocked makes a term and a vote durable, in the mark, too: damage to them must never pass for a write that was not finished. A vote alone is
// written to both at the same time, since others wait for it: the mark says then what is being promised, at the end of what was durable before, and recovery
// believes it (adoptState).
func (w *WAL) promiseLocked(alone bool) error {
	if !alone {
		if err := w.syncLocked(); err != nil {
			return err
		}
		return w.mark.sync()
	}
	if err := w.mark.write(w.markStateLocked()); err != nil {
		return err
	}
	noted := make(chan error, 1)
	go func() { noted <- w.mark.sync() }()
	return errors.Join(w.syncLocked(), <-noted)
}

func (w *WAL) markStateLocked() markState {
	tail := w.segs[len(w.segs)-1]
	return markState{
		seq: tail.seq, offset: uint64(tail.end), crc: tail.crc, hs: w.view.hs,
		lastTerm: w.view.lastTerm(), last: w.view.last, snap: w.view.snap, floor: max(w.floor, w.view.floor),
	}
}

// Compact deletes the segments that hold nothing but entries below index, or below the oldest snapshot that is kept, if that
// is lower. It waits for those who read them, while others go on. After an error the storage stays usable; what could not be
// deleted is so the next time.
func (w *WAL) Compact(index uint64) error {
	w.cutMu.Lock()
	defer w.cutMu.Unlock()
	drop, err := w.cutOff(index)
	if err != nil {
		return err
	}
	w.dropped = append(w.dropped, drop...)
	for len(w.dropped) > 0 { // oldest first: an interruption leaves no gap
		s := w.dropped[0]
		w.indexMu.Lock()
		for s.pins > 0 {
			w.unpinned.Wait()
		}
		w.indexMu.Unlock()
		w.readers.leave(s)
		if err := w.supply.retire(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("storage: delete segment: %w", err)
		}
		w.dropped = w.dropped[1:]
		w.tally.dropped.Add(1)
	}
	return nil
}

// cutOff takes the segments out of the index that Compact deletes.
func (w *WAL) cutOff(index uint64) ([]*segment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return nil, err
	}
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	if len(w.snaps) == 0 {
		return nil, nil
	}
	keep := segmentOf(w.segs, min(index, w.snaps[len(w.snaps)-1].index))
	drop := w.segs[:keep]
	w.segs = append([]*segment(nil), w.segs[keep:]...)
	return drop, nil
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

// Close makes everything durable and releases the directory. It waits for the calls that are under way, but not for
// snapshots that are being written: those are abandoned. Closing again returns the same.
func (w *WAL) Close() error {
	w.closing.Do(func() {
		w.closed.Store(true)
		w.readers.close()
		close(w.stop)
		w.workers.Wait()
		w.snapMu.Lock()
		defer w.snapMu.Unlock()
		w.cutMu.Lock()
		defer w.cutMu.Unlock()
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
	cerr := errors.Join(w.out.close(), w.supply.close(), w.mark.f.Close(), w.watched.close(), w.lock.Close())
	if err == nil && cerr != nil {
		err = fmt.Errorf("storage: %w", cerr)
	}
	return err
}

// finishLocked makes everything durable and puts the same mark in both slots.
func (w *WAL) finishLocked() error {
	if err := w.syncLocked(); err != nil {
		return err
	}
	if err := w.mark.write(w.markStateLocked()); err != nil {
		return err
	}
	return w.mark.sync()
}
