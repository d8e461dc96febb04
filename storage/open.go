package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Open creates a member in dir when Empty says so, and recovers what is there otherwise. Errors: ErrLocked, ErrForeign and
// *IdentityError, after which nothing was written; *CorruptError when acknowledged data is damaged, after which nothing
// was changed.
func Open(dir string, o Options) (*WAL, error) {
	dir, err := filepath.Abs(dir) // the program may change its working directory
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	state, err := checkDir(dir, o)
	if err != nil {
		return nil, err
	}
	if state == dirEmpty {
		if err := makeDir(dir); err != nil {
			return nil, fmt.Errorf("storage: %w", err)
		}
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	w, err := openLocked(dir, o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return w, nil
}

// checkDir tells what is in dir, and fails when it is not for o.Identity.
func checkDir(dir string, o Options) (dirState, error) {
	state, err := classify(dir)
	if err != nil {
		return 0, err
	}
	if state == dirEmpty {
		return state, o.Identity.validate()
	}
	body, err := readIdentity(dir)
	if err != nil {
		return 0, err
	}
	want, have := o.Identity, body.Identity
	if want.Incarnation == 0 {
		want.Incarnation = have.Incarnation
	}
	if want != have {
		return 0, &IdentityError{Dir: dir, Want: o.Identity, Have: have}
	}
	return state, nil
}

func openLocked(dir string, o Options, lock *os.File) (*WAL, error) {
	state, err := checkDir(dir, o) // again: it may have been created before we had the lock
	if err != nil {
		return nil, err
	}
	if o.SegmentSize < 0 {
		return nil, fmt.Errorf("storage: segment size %d", o.SegmentSize)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if state == dirEmpty {
		if err := create(dir, o); err != nil {
			return nil, fmt.Errorf("storage: create %s: %w", dir, err)
		}
	}
	w := &WAL{dir: dir, segmentSize: o.SegmentSize, logger: o.Logger, lock: lock, stop: make(chan struct{})}
	w.unpinned, w.sweeping = sync.NewCond(&w.indexMu), make(chan struct{}, 1)
	w.supply = supply{path: filepath.Join(dir, walName, spareName), size: o.SegmentSize, make: reserve, wake: make(chan struct{}, 1),
		looked: make(chan struct{}, 1)}
	if err := w.recover(); err != nil {
		return nil, err
	}
	w.workers.Go(func() { w.mark.run(w.stop, w.fail) })
	w.workers.Go(func() { w.supply.run(w.stop, w.fail) })
	w.workers.Go(w.runSweeper)
	return w, nil
}

// makeDir makes dir and whatever is missing above it, and all of these names durable: also those that an earlier start has
// made which was interrupted. What it has not made itself it may not be allowed to read, or to sync.
func makeDir(dir string) error {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
			break
		}
		missing = append(missing, d)
	}
	for _, d := range slices.Backward(missing) {
		if err := mkdir(d); err != nil {
			return err
		}
	}
	for n, d := 0, dir; d != filepath.Dir(d); n, d = n+1, filepath.Dir(d) {
		if err := syncDir(filepath.Dir(d)); err != nil && n < len(missing) && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

// create makes a new member. The file "creating" is there until everything else is durable; a crash before that leaves a
// directory that is Empty, and that the next create clears.
func create(dir string, o Options) error {
	if err := writeFile(filepath.Join(dir, creatingName), nil); err != nil {
		return err
	}
	if err := clearUnfinished(dir); err != nil {
		return err
	}
	snaps, wals := filepath.Join(dir, snapName), filepath.Join(dir, walName)
	if err := mkdir(snaps); err != nil {
		return err
	}
	if o.Boot != nil {
		if err := checkSnapshot(o.Boot); err != nil {
			return err
		}
		tmp, err := writeSnapshotFile(snaps, o.Boot, nil)
		if err == nil {
			err = moveFile(tmp, filepath.Join(snaps, idOf(o.Boot).file(snapExt)))
		}
		if err != nil {
			return err
		}
	}
	if err := createWAL(wals, o); err != nil {
		return err
	}
	segs, _, err := listSegments(wals)
	if err != nil {
		return err
	}
	sc, err := scan(segs, nil)
	if err != nil {
		return err
	}
	m, err := createMark(filepath.Join(dir, markName), o.Identity.Incarnation)
	if err != nil {
		return err
	}
	err = m.write(sc.markState(0))
	if err == nil {
		err = m.write(sc.markState(0))
	}
	if err == nil {
		err = m.sync()
	}
	if err := errors.Join(err, m.f.Close()); err != nil {
		return err
	}
	body, err := (&identityBody{Identity: o.Identity, Unborn: o.Unborn}).encode()
	if err != nil {
		return err
	}
	if err := errors.Join(syncDir(wals), syncDir(dir)); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, identityName), body); err != nil {
		return err
	}
	return finishCreation(dir)
}

// createWAL makes the first segment.
func createWAL(dir string, o Options) error {
	if err := mkdir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, segmentName(0, 0))
	if err := reserve(path, o.SegmentSize); err != nil {
		return err
	}
	out, err := newAppender(path, 0, 0, 0)
	if err != nil {
		return err
	}
	out.chain()
	out.metadata(o.Identity)
	err = out.snapshot(snapID{}, nil)
	if err == nil && o.Boot != nil {
		id := idOf(o.Boot)
		err = out.snapshot(id, o.Boot.GetMetadata().GetConfState())
		out.state(hardState{term: id.term, commit: id.index})
	}
	if err == nil {
		_, err = out.sync()
	}
	return errors.Join(err, out.close())
}

// mkdir makes a directory unless it is there, perhaps with a file system mounted on it.
func mkdir(dir string) error {
	err := newDir(dir)
	if fi, serr := os.Stat(dir); errors.Is(err, os.ErrExist) && serr == nil && fi.IsDir() {
		return nil
	}
	return err
}

// clearUnfinished removes what an interrupted creation left.
func clearUnfinished(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		switch name := e.Name(); {
		case name == creatingName, name == lockName, notOurs(name):
		case name == walName, name == snapName: // not the directory, which may have been made for us
			err = clearDir(path)
		default: // classify has made sure that it is ours
			err = removeTree(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func clearDir(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if notOurs(e.Name()) {
			continue
		}
		if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// finishCreation removes the sign of an unfinished creation, once there is an identity.
func finishCreation(dir string) error {
	err := remove(filepath.Join(dir, creatingName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// Files beside the segments: one that is in stock, and one that is being made a segment.
const (
	spareName = "spare.tmp"
	nextName  = "next.tmp"
)

const defaultSegmentSize = 64 << 20

// record is the WAL's record of a snapshot. cs may be nil only where the record is looked for.
func (id snapID) record(cs *raftpb.ConfState) *walpb.Snapshot {
	return &walpb.Snapshot{Index: new(id.index), Term: new(id.term), ConfState: cs}
}
