package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
)

const keepSnapshots = 2

// SaveSnapshot makes a checkpoint of this member durable: snap with its Data as an opaque header, and the body, nil for
// none. The entry snap names must be durable. A checkpoint that was overtaken, because a newer snapshot is in force by now,
// is dropped, which is no error. No lock is held while the body is written: other calls wait for its last step only, by
// which it comes into force. When it fails before that (a full disk, an error of body, a failed fsync of its file)
// nothing has changed and the storage stays usable.
func (w *WAL) SaveSnapshot(snap *raftpb.Snapshot, body io.WriterTo) error {
	overtaken, err := w.overtaken(snap)
	if overtaken || err != nil {
		return err
	}
	var fn func(io.Writer) error
	if body != nil {
		fn = func(out io.Writer) error {
			defer w.yielding.begin()()
			_, err := body.WriteTo(&yieldingWriter{openWriter: openWriter{w, out}})
			return err
		}
	}
	tmp, err := w.writeSnapshot(snap, fn)
	if err != nil {
		return err
	}
	if overtaken, err = w.bringIntoForce(snap, tmp); err != nil {
		return err
	}
	if overtaken {
		return w.disk.Remove(tmp)
	}
	w.sweep()
	return nil
}

// bringIntoForce does the last step of SaveSnapshot.
func (w *WAL) bringIntoForce(snap *raftpb.Snapshot, tmp string) (overtaken bool, err error) {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	if overtaken, err = w.overtaken(snap); overtaken || err != nil {
		return overtaken, err
	}
	return false, w.enforce(snap, tmp, false)
}

// enforce brings a snapshot file that is durable into force, in place of those before it or beside them. w.snapMu is held.
func (w *WAL) enforce(snap *raftpb.Snapshot, file string, replaces bool) error {
	id := idOf(snap)
	if err := w.disk.moveFile(file, filepath.Join(w.dir, snapName, id.file(snapExt))); err != nil {
		return fmt.Errorf("storage: save snapshot: %w", err) // nothing rests on it yet
	}
	err := w.locked(func() error {
		if err := w.recordLocked(snap); err != nil {
			return err
		}
		return w.fail(w.syncLocked())
	})
	if err != nil {
		return err
	}
	return w.noteInForce(id, replaces)
}

// StageSnapshot writes and verifies a snapshot of the leader, without bringing it into force: a restart forgets it. Others that are
// staged stay, as they may be about to be installed, until one as new as they are is in force. It reads body (nil: none) to
// its end. No lock is held while it reads: whoever sends the body may take any time, and nothing else waits for it, nor do other
// calls of StageSnapshot. After an error of body, or a Close, nothing has changed but that what was read is kept: if a body
// for the same snapshot has a method Resume(have int64, sum [32]byte) (from int64, err error) the next time, that is told how many bytes
// are there and their SHA-256, and says where the body goes on that is read then, there or at 0. That also holds after a restart.
func (w *WAL) StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error {
	if err := w.takes(snap); err != nil {
		return err
	}
	tmp, done, err := w.receive(snap, body)
	if err != nil {
		return err
	}
	defer done()
	if _, err := w.disk.verifySnapshotFile(tmp, idOf(snap)); err != nil {
		return errors.Join(err, w.disk.Remove(tmp))
	}
	if err := w.stage(tmp, idOf(snap)); err != nil {
		return err
	}
	w.sweep()
	return nil
}

// stage does the last step of StageSnapshot.
func (w *WAL) stage(tmp string, id snapID) error {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	if err := w.usable(); err != nil {
		return errors.Join(err, w.disk.Remove(tmp))
	}
	// The name need not be durable: InstallSnapshot gives it another one, and nobody finds a staged one after a restart.
	if err := w.disk.Rename(tmp, filepath.Join(w.dir, snapName, id.file(stagedExt))); err != nil {
		return fmt.Errorf("storage: stage snapshot: %w", errors.Join(err, w.disk.Remove(tmp)))
	}
	w.tally.staged.Add(1)
	return nil
}

// InstallSnapshot brings a staged snapshot into force, together with hs, durably. The log goes on after it: entries before
// it are gone, and so are those after it, unless the log holds the very entry the snapshot ends with. It waits for no other
// snapshot that is being written or staged. The error is ErrNoSnapshot when it was not staged, ErrCompacted when a newer
// one is in force. Any other error sticks.
func (w *WAL) InstallSnapshot(snap *raftpb.Snapshot, hs *raftpb.HardState) error {
	if err := w.install(snap, hs); err != nil {
		return err
	}
	select {
	case w.sweeping <- struct{}{}: // on another goroutine: deleting a large file takes its time
	default:
	}
	return nil
}

func (w *WAL) install(snap *raftpb.Snapshot, hs *raftpb.HardState) error {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	id := idOf(snap)
	if err := w.takes(snap); err != nil {
		return err
	}
	if w.newest().index > id.index {
		return fmt.Errorf("%w: snapshot %d is older than %d", ErrCompacted, id.index, w.newest().index)
	}
	dir := filepath.Join(w.dir, snapName)
	err := w.disk.Rename(filepath.Join(dir, id.file(stagedExt)), filepath.Join(dir, id.file(snapExt)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %d of term %d is not staged", ErrNoSnapshot, id.index, id.term)
	}
	if err == nil {
		err = w.watched.snaps.Sync() // needs no descriptor
	}
	if err != nil {
		return w.fail(fmt.Errorf("storage: install snapshot: %w", err))
	}
	if err := w.locked(func() error { return w.fail(w.installLocked(snap, hs)) }); err != nil {
		return err
	}
	return w.noteInForce(id, true)
}

// installLocked writes term and vote, then the snapshot record, then the commit. A crash after each leaves a valid state.
func (w *WAL) installLocked(snap *raftpb.Snapshot, p *raftpb.HardState) error {
	id := idOf(snap)
	hs := w.view.hs
	if p.GetTerm() != 0 {
		hs = hardState{p.GetTerm(), p.GetVote(), p.GetCommit()}
	}
	hs.commit = max(hs.commit, id.index)
	if hs.term < id.term {
		return fmt.Errorf("storage: install refused: term %d with a snapshot of term %d", hs.term, id.term)
	}
	if old := w.view.hs; hs.term != old.term || hs.vote != old.vote {
		if err := w.saveLocked(hardState{hs.term, hs.vote, old.commit}.proto(), nil); err != nil {
			return err
		}
	}
	w.replace(id.index)
	if err := w.recordLocked(snap); err != nil {
		return err
	}
	w.view.floor = max(w.view.floor, id.index)
	if err := w.syncLocked(); err != nil {
		return err
	}
	w.recovered = nil
	return w.saveLocked(hs.proto(), nil)
}

// recordLocked appends the WAL's record of a snapshot.
func (w *WAL) recordLocked(snap *raftpb.Snapshot) error {
	id := idOf(snap)
	w.beginLocked()
	if err := w.out.snapshot(id, snap.GetMetadata().GetConfState()); err != nil {
		return w.fail(err)
	}
	return w.fail(w.view.snapshot(id.index, id.term, w.segs[len(w.segs)-1].index))
}

// OpenSnapshot returns the newest snapshot in force, with a reader of its body and the body's size. At the end of a body
// that is not what was written the reader returns a *CorruptError instead of io.EOF. The caller closes it; it stays
// readable when newer snapshots replace it, and a method Rewind() error lets it be read again from its beginning. The error is ErrNoSnapshot when there is none.
func (w *WAL) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	for {
		if w.closed.Load() {
			return nil, nil, 0, ErrClosed
		}
		id := w.newest()
		if id == (snapID{}) {
			return nil, nil, 0, ErrNoSnapshot
		}
		r, err := w.disk.openSnapshotFile(filepath.Join(w.dir, snapName, id.file(snapExt)))
		if err != nil && w.newest() != id {
			continue
		}
		if err != nil {
			return nil, nil, 0, err
		}
		return r.snap, r, r.body, nil
	}
}

// OpenFallback returns the snapshot before the newest one, like OpenSnapshot. It is for a newest one that cannot be used
// although it is intact: that one is never kept as a fallback from then on, so this one stays until there are two better ones.
func (w *WAL) OpenFallback() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	w.snapMu.Lock() // so that none comes into force
	defer w.snapMu.Unlock()
	w.indexMu.Lock()
	snaps := w.snaps
	w.indexMu.Unlock()
	if len(snaps) < 2 {
		return nil, nil, 0, ErrNoSnapshot
	}
	w.distrusted = snaps[0]
	r, err := w.disk.openSnapshotFile(filepath.Join(w.dir, snapName, snaps[1].file(snapExt)))
	if err != nil {
		return nil, nil, 0, err
	}
	return r.snap, r, r.body, nil
}

func (w *WAL) newest() snapID {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	if len(w.snaps) == 0 {
		return snapID{}
	}
	return w.snaps[0]
}

func checkSnapshot(snap *raftpb.Snapshot) error {
	if idOf(snap).index == 0 || idOf(snap).term == 0 || snap.GetMetadata().GetConfState() == nil {
		return fmt.Errorf("storage: incomplete snapshot metadata %v", snap.GetMetadata())
	}
	return nil
}

// takes returns why nothing may be done with snap.
func (w *WAL) takes(snap *raftpb.Snapshot) error {
	if err := w.usable(); err != nil {
		return err
	}
	return checkSnapshot(snap)
}

// overtaken tells whether a newer snapshot than snap is in force. The error is why snap cannot be a checkpoint.
func (w *WAL) overtaken(snap *raftpb.Snapshot) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.takes(snap); err != nil {
		return false, err
	}
	id, newest := idOf(snap), w.newest()
	if id.index < max(newest.index, w.view.floor) { // the log is replaced a moment before the snapshot counts as in force
		return true, nil
	}
	if id != newest && !w.view.matches(id.index, id.term) {
		return false, fmt.Errorf("storage: entry %d of term %d is not in the log", id.index, id.term)
	}
	return false, nil
}

// locked runs fn, unless the storage has become unusable.
func (w *WAL) locked(fn func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	return fn()
}

// writeSnapshot writes a snapshot into a file of its own, durably, and returns its name.
func (w *WAL) writeSnapshot(snap *raftpb.Snapshot, body func(io.Writer) error) (string, error) {
	tmp, err := w.disk.writeSnapshotFile(filepath.Join(w.dir, snapName), snap, body)
	if err != nil {
		return "", fmt.Errorf("storage: write snapshot %d: %w", idOf(snap).index, err)
	}
	return tmp, nil
}

// noteInForce syncs the mark after a snapshot came into force. The one before it stays as a fallback, unless the new one
// replaces it. w.snapMu is held.
func (w *WAL) noteInForce(id snapID, replaced bool) error {
	if err := w.mark.sync(); err != nil {
		return w.fail(err)
	}
	size := int64(0)
	if fi, err := w.disk.Stat(filepath.Join(w.dir, snapName, id.file(snapExt))); err == nil {
		size = fi.Size()
	}
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	snaps := []snapID{id}
	for _, old := range w.snaps {
		if old != id && old != w.distrusted && !replaced && len(snaps) < keepSnapshots {
			snaps = append(snaps, old)
		}
	}
	if w.snaps = snaps; replaced {
		w.tally.installed.Add(1)
	} else {
		w.tally.checkpoints.Add(1)
	}
	w.snapSizes[id] = size
	maps.DeleteFunc(w.snapSizes, func(id snapID, _ int64) bool { return !slices.Contains(snaps, id) })
	return nil
}

// sweep deletes the snapshots that are not needed any more. What cannot be deleted now is tried again the next time:
// nothing depends on it. Once something has failed nothing is deleted: one that the log names may not be known to be in force.
func (w *WAL) sweep() {
	w.snapMu.Lock()
	var names []string
	err := w.usable()
	if err == nil {
		names, err = w.deadSnapshots(false)
	}
	w.snapMu.Unlock()
	if err == nil {
		err = w.disk.removeAll(names)
	}
	if err != nil && w.usable() == nil {
		w.logger.Warn("cannot delete an old snapshot", "err", err)
	}
}

// runSweeper sweeps after each InstallSnapshot, until Close.
func (w *WAL) runSweeper() {
	for {
		select {
		case <-w.sweeping:
			w.sweep()
		case <-w.stop:
			return
		}
	}
}

// deadSnapshots returns the files in the snapshot directory that will never be used again: all but those in force, those
// staged that are newer, those that are being written, and what has broken off of newer ones. While the directory is opened nothing is staged or being
// written. w.snapMu is held, so that none of them is about to come into force.
func (w *WAL) deadSnapshots(opening bool) (dead []string, err error) {
	dir := filepath.Join(w.dir, snapName)
	names, err := w.disk.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	for _, e := range names {
		name := e.Name()
		base, isStaged := strings.CutSuffix(name, stagedExt)
		index, _, _ := parseSegmentName(base + ".wal")
		keep := true
		switch {
		case strings.HasSuffix(name, snapExt):
			keep = slices.ContainsFunc(w.snaps, func(id snapID) bool { return id.file(snapExt) == name })
		case strings.HasSuffix(name, partExt):
			id, _ := partOf(name)
			keep = id.index > w.newest().index || w.parts[id]
		case isStaged:
			keep = !opening && index > w.newest().index
		case strings.HasSuffix(name, tmpExt):
			keep = !opening
		}
		if !keep {
			dead = append(dead, filepath.Join(dir, name))
		}
	}
	return dead, nil
}

func (d disk) removeAll(names []string) error {
	for _, name := range names {
		if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("storage: delete snapshot: %w", err)
		}
	}
	return nil
}

// openWriter ends the writing of a snapshot when the WAL is closed.
type openWriter struct {
	w   *WAL
	out io.Writer
}

func (o openWriter) Write(p []byte) (int, error) {
	if o.w.closed.Load() {
		return 0, ErrClosed
	}
	return o.out.Write(p)
}
