package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// holds tells whether the log can go on from snapshot id: it is recorded, and all entries after it are there.
func (v *view) holds(id snapID) bool {
	if !v.snapshotRecords[[2]uint64{id.index, id.term}] || !v.known {
		return false
	}
	if id.index == v.base && (!v.exact || v.baseTerm == id.term) {
		return true
	}
	return v.matches(id.index, id.term)
}

// recover brings the WAL up from its directory. Until openLog it only reads.
//
//  1. The identity and the mark.
//  2. The newest snapshot file that is intact and recorded in the WAL; the WAL from its segment on decodes up to the mark
//     and to the last boundary.
//  3. A torn tail after the mark is cut off.
//  4. etcd's own decoder must see the same.
//  5. Everything is synced, the mark set to the end, leftovers are deleted.
func (w *WAL) recover() (err error) {
	defer func() {
		if err != nil && w.mark != nil {
			w.mark.f.Close()
		}
	}()
	r, err := w.read()
	if err != nil {
		return err
	}
	if tail := r.sc.tail(); r.sc.torn != nil {
		w.logger.Warn("cutting off a torn write that was never acknowledged", "file", tail.path, "offset", tail.end, "cause", r.sc.torn)
		if err := w.disk.cutTorn(tail); err != nil {
			return fmt.Errorf("storage: cut torn tail: %w", err)
		}
	}
	return w.openLog(r)
}

// A reading is what was found in a directory from which the log can go on.
type reading struct {
	sc      *scanned
	snap    *raftpb.Snapshot // with which sc begins, empty for none
	before  []*segment       // what is left of those that were given up: nothing needs them
	revised bool             // the hard state is not that of the log
}

// read does the first two steps. It changes nothing on disk, and leaves the mark open.
func (w *WAL) read() (*reading, error) {
	if err := w.disk.condemned(w.dir); err != nil {
		return nil, err
	}
	body, err := w.disk.readIdentity(w.dir)
	if err != nil {
		return nil, err
	}
	w.body.Store(body)
	w.id = body.Identity
	var m markState
	if w.mark, m, err = w.disk.readMark(filepath.Join(w.dir, markName), w.id.Incarnation, &w.tally); err != nil {
		return nil, err
	}
	r := &reading{}
	if w.segs, r.before, err = w.disk.listSegments(filepath.Join(w.dir, walName)); err != nil {
		return nil, err
	}
	if r.sc, r.snap, err = w.choose(&m); err != nil {
		return nil, err
	}
	tail := r.sc.tail()
	id, ok := parseMetadata(r.sc.meta)
	if !ok {
		return nil, fmt.Errorf("storage: %s has metadata of another format version", tail.path)
	}
	if id != w.id {
		return nil, &IdentityError{Dir: filepath.Join(w.dir, walName), Want: w.id, Have: id}
	}
	w.view, w.floor = r.sc.view, max(m.floor, r.sc.view.floor)
	// One whose log is gone is no fallback.
	w.snaps = slices.DeleteFunc(w.snaps, func(id snapID) bool { return id != w.snaps[0] && id.index+1 < w.firstLocked() })
	adopted := w.adoptState(m.hs)
	r.revised = w.reviseState(idOf(r.snap)) || adopted
	if w.view.hs.commit > w.view.last {
		return nil, corrupt(tail.path, tail.end, "commit %d is beyond the last entry %d", w.view.hs.commit, w.view.last)
	}
	return r, nil
}

// choose finds the newest snapshot from which the log goes on. The empty one stands for the start of a log without any.
func (w *WAL) choose(m *markState) (*scanned, *raftpb.Snapshot, error) {
	dir := filepath.Join(w.dir, snapName)
	ids, err := w.disk.listSnapshots(dir)
	if err != nil {
		return nil, nil, err
	}
	var damage error
	for k, id := range append(ids, snapID{}) {
		snap := &raftpb.Snapshot{}
		if id != (snapID{}) {
			if snap, err = w.disk.verifySnapshotFile(filepath.Join(dir, id.file(snapExt)), id); err != nil {
				if !isCorrupt(err) {
					return nil, nil, err // it may be all right, and would be deleted
				}
				damage = firstError(damage, err)
				continue
			}
		}
		start := len(w.segs) - 1
		for start > 0 && w.segs[start].index > id.index {
			start--
		}
		if w.segs[start].index > id.index {
			name := filepath.Join(filepath.Dir(w.segs[0].path), fmt.Sprintf("%016x-*.wal", w.segs[0].seq-1))
			damage = firstError(damage, corrupt(name, 0, "missing, and no snapshot from which the log goes on without it"))
			continue
		}
		sc, err := scan(w.segs[start:], m)
		if err != nil {
			return nil, nil, err
		}
		if sc.view.holds(id) {
			if damage != nil {
				w.logger.Warn("recovering from an older snapshot and the log after it", "index", id.index, "cause", damage)
			}
			w.snaps = slices.Clone(ids[k:min(len(ids), k+keepSnapshots)])
			return sc, snap, nil
		}
		if newest := (snapID{sc.view.snap, sc.view.snapTerm}); newest.index > id.index {
			damage = firstError(damage, corrupt(filepath.Join(dir, newest.file(snapExt)), 0, "missing"))
		}
	}
	if damage == nil {
		damage = corrupt(dir, 0, "no snapshot from which the log goes on")
	}
	return nil, nil, damage
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// adoptState takes a term and a vote from the mark that are not in the log: a crash has come between the two, or the log was damaged since.
func (w *WAL) adoptState(promised hardState) bool {
	hs := &w.view.hs
	if !promised.follows(*hs) || promised.term == hs.term && promised.vote == hs.vote {
		return false
	}
	hs.term, hs.vote = promised.term, promised.vote
	return true
}

// reviseState makes up for what a crash between two records leaves: a snapshot without the commit that it implies, entries
// without the term in which they came. Nothing was acknowledged in that term, in particular no vote.
func (w *WAL) reviseState(snap snapID) bool {
	v, old := w.view, w.view.hs
	v.hs.commit = max(v.hs.commit, snap.index)
	if t := max(v.lastTerm(), snap.term); t > v.hs.term {
		v.hs.term, v.hs.vote = t, 0
	}
	return v.hs != old
}

// cutTorn cuts the last segment at the end of what decodes. The size stays: the rest becomes zeros. syncRead makes it durable.
func (d disk) cutTorn(s *segment) error {
	f, err := d.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		err = f.Truncate(s.end)
	}
	if err == nil {
		err = f.Truncate(fi.Size() &^ 7) // etcd's reader fails at a rest that is shorter than a frame's length
	}
	return errors.Join(err, f.Close())
}

// secondOpinion, if there is one, reads the segments as well, and fails if it sees anything else after the snapshot. The tests of
// this package have one: etcd's own decoder.
var secondOpinion func(w *WAL, segs []*segment, snap snapID) error

func (w *WAL) checkAgain(segs []*segment, snap snapID) error {
	if secondOpinion == nil {
		return nil
	}
	return secondOpinion(w, segs, snap)
}

// openLog goes on at the end of the log, and makes sure that all that was read
// is durable. What is left of segments that were given up is deleted.
func (w *WAL) openLog(r *reading) (err error) {
	dir, id, tail := filepath.Join(w.dir, walName), idOf(r.snap), r.sc.tail()
	if err := w.checkAgain(r.sc.segs, id); err != nil {
		return err
	}
	if err := w.syncRead(); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	w.recovered = &recovered{hs: w.view.hs.proto(), last: max(w.view.last, id.index), terms: w.view.termsAfter(id.index)}
	if id != (snapID{}) {
		w.recovered.snap = r.snap
	}
	dead := []string{filepath.Join(dir, spareName), filepath.Join(dir, nextName)}
	for _, s := range r.before {
		w.logger.Warn("deleting a segment of which the log needs nothing", "file", s.path)
		dead = append(dead, s.path)
	}
	for _, name := range dead {
		if err := w.disk.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("storage: %w", err)
		}
	}
	for _, dir := range []string{dir, filepath.Join(w.dir, snapName)} {
		if err := w.disk.checkWritable(dir); err != nil {
			return fmt.Errorf("storage: %s is not writable: %w", dir, err)
		}
	}
	fi, err := w.disk.Stat(tail.path)
	if err == nil {
		_, err = w.supply.enlarge(tail.path, fi.Size())
	}
	if err != nil && !scarce(err) {
		return fmt.Errorf("storage: %w", err)
	}
	if w.out, err = w.disk.newAppender(tail.path, tail.end, tail.crc, tail.end, &w.tally); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	defer func() {
		if err != nil {
			w.out.close()
			w.watched.close()
		}
	}()
	w.supply.room.Store(w.out.room)
	if err := w.watched.begin(w.disk, w.dir, w.lock, w.mark.f, tail.path, w.out.f.File); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	if r.revised {
		w.beginLocked()
		w.out.state(w.view.hs)
	}
	if err := w.finishLocked(); err != nil { // both slots of the mark: an older damage is healed
		return err
	}
	dead, err = w.deadSnapshots(true)
	if err == nil {
		err = w.disk.removeAll(dead)
	}
	if err != nil {
		return err
	}
	if err := w.disk.finishCreation(w.dir); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}

// syncRead makes durable what was read: the process that wrote it may have died before it had synced it, and it may be a
// copy that nobody has synced. The mark is synced when it is written.
func (w *WAL) syncRead() error {
	if _, err := w.disk.syncName(filepath.Join(w.dir, identityName)); err != nil {
		return err
	}
	for _, s := range w.segs {
		size, err := w.disk.syncName(s.path)
		if err != nil {
			return err
		}
		s.size.Store(size)
	}
	w.snapSizes = map[snapID]int64{}
	for _, id := range w.snaps {
		size, err := w.disk.syncName(filepath.Join(w.dir, snapName, id.file(snapExt)))
		if err != nil {
			return err
		}
		w.snapSizes[id] = size
	}
	for _, dir := range []string{filepath.Join(w.dir, walName), filepath.Join(w.dir, snapName), w.dir} {
		if err := w.disk.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncName makes a file durable, and returns its size.
func (d disk) syncName(name string) (size int64, err error) {
	f, err := d.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	fi, err := f.Stat()
	if err == nil {
		size, err = fi.Size(), f.Datasync()
	}
	return size, errors.Join(err, f.Close())
}
