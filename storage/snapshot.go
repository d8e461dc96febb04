package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
)

const keepSnapshots = 2

// SaveSnapshot makes a checkpoint of this member durable: snap with its Data as an opaque header, and the body, nil for
// none. The entry snap names must be durable. It runs concurrently with Save, which it stops only for its last step. When
// it fails before that (a full disk, an error of body) nothing has changed and the storage stays usable; a failed fsync
// sticks. The error is ErrCompacted when a newer snapshot is in force already.
func (w *WAL) SaveSnapshot(snap *raftpb.Snapshot, body io.WriterTo) error {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	id := idOf(snap)
	if err := w.checkpointable(snap); err != nil {
		return err
	}
	var fn func(io.Writer) error
	if body != nil {
		fn = func(out io.Writer) error {
			_, err := body.WriteTo(openWriter{w, out})
			return err
		}
	}
	if err := w.writeSnapshot(id.file(snapExt), snap, fn); err != nil {
		return err
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
	return w.inForce(id)
}

// StageSnapshot makes a snapshot of the leader durable and verifies it, without bringing it into force. Others that are
// staged stay, as they may be about to be installed, until one as new as they are is in force. It reads body (nil: none) to its end; an error of body leaves everything as it was.
func (w *WAL) StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	if err := checkSnapshot(snap); err != nil {
		return err
	}
	var fn func(io.Writer) error
	if body != nil {
		fn = func(out io.Writer) error {
			_, err := io.CopyBuffer(openWriter{w, out}, struct{ io.Reader }{body}, make([]byte, 256<<10))
			return err
		}
	}
	name := idOf(snap).file(stagedExt)
	if err := w.writeSnapshot(name, snap, fn); err != nil {
		return err
	}
	if _, err := verifySnapshotFile(filepath.Join(w.dir, snapName, name), idOf(snap)); err != nil {
		return err
	}
	return w.sweepSnapshots(false)
}

// InstallSnapshot brings a staged snapshot into force, together with hs, durably. The log goes on after it: entries before
// it are gone, and so are those after it, unless the log holds the very entry the snapshot ends with. The error is
// ErrNoSnapshot when it was not staged, ErrCompacted when a newer one is in force. Any other error sticks.
func (w *WAL) InstallSnapshot(snap *raftpb.Snapshot, hs *raftpb.HardState) error {
	w.snapMu.Lock()
	defer w.snapMu.Unlock()
	id := idOf(snap)
	if err := w.usable(); err != nil {
		return err
	}
	if err := checkSnapshot(snap); err != nil {
		return err
	}
	if w.newest().index > id.index {
		return fmt.Errorf("%w: snapshot %d is older than %d", ErrCompacted, id.index, w.newest().index)
	}
	dir := filepath.Join(w.dir, snapName)
	err := os.Rename(filepath.Join(dir, id.file(stagedExt)), filepath.Join(dir, id.file(snapExt)))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %d of term %d is not staged", ErrNoSnapshot, id.index, id.term)
	}
	if err != nil {
		return w.fail(fmt.Errorf("storage: install snapshot: %w", err))
	}
	if err := syncDir(dir); err != nil {
		return w.fail(fmt.Errorf("storage: install snapshot: %w", err))
	}
	if err := w.locked(func() error { return w.fail(w.installLocked(snap, hs)) }); err != nil {
		return err
	}
	return w.inForce(id)
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
	w.supersede(1)
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
	if err := w.out.snapshot(id, snap.GetMetadata().GetConfState()); err != nil {
		return w.fail(err)
	}
	return w.fail(w.view.snapshot(id.index, id.term, w.segs[len(w.segs)-1].index))
}

// OpenSnapshot returns the newest snapshot in force, with a reader of its body and the body's size. At the end of a body
// that is not what was written the reader returns a *CorruptError instead of io.EOF. The caller closes it; it stays
// readable when newer snapshots replace it. The error is ErrNoSnapshot when there is none.
func (w *WAL) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	for {
		if w.closed.Load() {
			return nil, nil, 0, ErrClosed
		}
		id := w.newest()
		if id == (snapID{}) {
			return nil, nil, 0, ErrNoSnapshot
		}
		r, err := openSnapshotFile(filepath.Join(w.dir, snapName, id.file(snapExt)))
		if err != nil && w.newest() != id {
			continue
		}
		if err != nil {
			return nil, nil, 0, err
		}
		return r.snap, r, r.body, nil
	}
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

func (w *WAL) checkpointable(snap *raftpb.Snapshot) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	if err := checkSnapshot(snap); err != nil {
		return err
	}
	id := idOf(snap)
	switch {
	case id.index < w.view.snap:
		return fmt.Errorf("%w: snapshot %d is older than %d", ErrCompacted, id.index, w.view.snap)
	case id == snapID{w.view.snap, w.view.snapTerm}, w.view.matches(id.index, id.term):
		return nil
	}
	return fmt.Errorf("storage: entry %d of term %d is not in the log", id.index, id.term)
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

func (w *WAL) writeSnapshot(name string, snap *raftpb.Snapshot, body func(io.Writer) error) error {
	syncFailed, err := writeSnapshotFile(filepath.Join(w.dir, snapName), name, snap, body)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("storage: write snapshot %s: %w", name, err)
	if syncFailed {
		return w.fail(err)
	}
	return err
}

// inForce syncs the mark after a snapshot came into force, and deletes the files that are not needed any more.
func (w *WAL) inForce(id snapID) error {
	if err := w.mark.sync(); err != nil {
		return w.fail(err)
	}
	w.indexMu.Lock()
	w.snaps = slices.Insert(slices.DeleteFunc(slices.Clone(w.snaps), func(old snapID) bool { return old == id }), 0, id)
	w.snaps = w.snaps[:min(len(w.snaps), keepSnapshots)]
	w.indexMu.Unlock()
	return w.sweepSnapshots(false)
}

// sweepSnapshots deletes everything in the snapshot directory but the files in force and, unless the directory is just
// being opened, those staged that are newer.
func (w *WAL) sweepSnapshots(opening bool) error {
	dir := filepath.Join(w.dir, snapName)
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	for _, e := range names {
		name := e.Name()
		ours := strings.HasSuffix(name, snapExt) || strings.HasSuffix(name, stagedExt) || strings.HasSuffix(name, ".tmp")
		inForce := slices.ContainsFunc(w.snaps, func(id snapID) bool { return id.file(snapExt) == name })
		base, isStaged := strings.CutSuffix(name, stagedExt)
		index, _, _ := parseSegmentName(base + ".wal")
		if !ours || inForce || isStaged && !opening && index > w.newest().index {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
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
