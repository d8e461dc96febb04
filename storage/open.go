package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/baton-ha/baton/internal/vfs"
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
	d := disk{vfs.OS}
	if o.FS != nil {
		d.FS = o.FS
	}
	if _, err := d.checkDir(dir, o); err != nil {
		return nil, err
	}
	if err := d.makeDir(dir); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	lock, err := d.lockDir(dir)
	if err != nil {
		return nil, err
	}
	w, err := d.openLocked(dir, o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return w, nil
}

// checkDir tells what is in dir, and fails when it is not for o.Identity.
func (d disk) checkDir(dir string, o Options) (dirState, error) {
	state, err := d.classify(dir)
	if err != nil {
		return 0, err
	}
	if state == dirEmpty {
		return state, o.Identity.validate()
	}
	body, err := d.readIdentity(dir)
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

func (d disk) openLocked(dir string, o Options, lock vfs.File) (*WAL, error) {
	state, err := d.checkDir(dir, o) // again: it may have been created before we had the lock
	if err != nil {
		return nil, err
	}
	if o.SegmentSize < 0 {
		return nil, fmt.Errorf("storage: segment size %d", o.SegmentSize)
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if o.MinFree == 0 {
		o.MinFree = defaultMinFree
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if state == dirEmpty {
		if err := d.create(dir, o); err != nil {
			return nil, fmt.Errorf("storage: create %s: %w", dir, err)
		}
	}
	w := &WAL{disk: d, dir: dir, segmentSize: o.SegmentSize, logger: o.Logger, lock: lock, stop: make(chan struct{}), parts: map[snapID]bool{}}
	w.unpinned, w.sweeping = sync.NewCond(&w.indexMu), make(chan struct{}, 1)
	w.supply = supply{disk: d, path: filepath.Join(dir, walName, spareName), size: o.SegmentSize, make: d.reserve, stock: &w.tally.spare, wake: make(chan struct{}, 1),
		looked: make(chan struct{}, 1), keep: func() int64 { return wantAgain(w.minFree) + w.reserve.missing() }}
	w.minFree, w.reserve = o.MinFree, d.newReserve(dir, max(o.Reserve, 0))
	if err := w.makeRoom(); err != nil {
		return nil, err
	}
	if err := w.recover(); err != nil {
		return nil, err
	}
	w.workers.Go(func() { w.mark.run(w.stop, w.fail) })
	w.workers.Go(func() { w.supply.run(w.stop, w.fail) })
	w.workers.Go(w.runSweeper)
	return w, nil
}

// makeDir makes dir and whatever is missing above it, and all of these names durable: also those that are there, as an
// earlier start may have made them that was interrupted, or whoever has put a copy there. What it has not made itself it may not be allowed to read, or to sync.
func (d disk) makeDir(dir string) error {
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := d.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := d.mkdir(at); err != nil {
			return err
		}
	}
	for n, at := 0, dir; at != filepath.Dir(at); n, at = n+1, filepath.Dir(at) {
		if err := d.syncDir(filepath.Dir(at)); err != nil && n < len(missing) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// create makes a new member, which is then recovered like any other. The file "creating" is there from the first step on until
// that is done: what a crash leaves before there is an identity is a directory that is Empty, and the next create clears it.
func (d disk) create(dir string, o Options) error {
	if err := d.writeFile(filepath.Join(dir, creatingName), nil); err != nil {
		return err
	}
	if err := d.clearUnfinished(dir); err != nil {
		return err
	}
	snaps, wals := filepath.Join(dir, snapName), filepath.Join(dir, walName)
	if err := d.mkdir(snaps); err != nil {
		return err
	}
	if o.Boot != nil {
		if err := checkSnapshot(o.Boot); err != nil {
			return err
		}
		tmp, err := d.writeSnapshotFile(snaps, o.Boot, o.content.body())
		if err == nil {
			err = d.moveFile(tmp, filepath.Join(snaps, idOf(o.Boot).file(snapExt)))
		}
		if err != nil {
			return err
		}
	}
	if err := d.createWAL(wals, o); err != nil {
		return err
	}
	segs, _, err := d.listSegments(wals)
	if err != nil {
		return err
	}
	sc, err := scan(segs, nil)
	if err != nil {
		return err
	}
	m, err := d.createMark(filepath.Join(dir, markName), o.Identity.Incarnation, new(tally))
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
	who := identityBody{Identity: o.Identity, Unborn: o.Unborn}
	if o.content != nil {
		who.ClusterID = o.content.ClusterID[:]
	}
	body, err := who.encode()
	if err != nil {
		return err
	}
	if err := errors.Join(d.syncDir(wals), d.syncDir(dir)); err != nil {
		return err
	}
	return d.writeFile(filepath.Join(dir, identityName), body)
}

// createWAL makes the first segment.
func (d disk) createWAL(dir string, o Options) error {
	if err := d.mkdir(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, segmentName(0, 0))
	if err := d.reserve(path, o.SegmentSize); err != nil {
		free, _ := d.Free(dir)
		return fmt.Errorf("%s takes %d bytes, and %d are free: %w", path, o.SegmentSize, free, err)
	}
	out, err := d.newAppender(path, 0, 0, 0, new(tally))
	if err != nil {
		return err
	}
	out.chain()
	out.metadata(o.Identity)
	err = out.snapshot(snapID{}, nil)
	switch {
	case err != nil:
	case o.content != nil:
		err = o.content.fill(out, o)
	case o.Boot != nil:
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
func (d disk) mkdir(dir string) error {
	err := d.Mkdir(dir, 0o700)
	if fi, serr := d.Stat(dir); errors.Is(err, fs.ErrExist) && serr == nil && fi.IsDir() {
		return nil
	}
	return err
}

// clearUnfinished removes what an interrupted creation left.
func (d disk) clearUnfinished(dir string) error {
	names, err := d.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		switch name := e.Name(); {
		case name == creatingName, name == lockName, name == EventsDir, notOurs(name), isAside(name):
		case name == walName, name == snapName: // not the directory, which may have been made for us
			err = d.clearDir(path)
		default: // classify has made sure that it is ours
			err = d.removeTree(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d disk) clearDir(dir string) error {
	names, err := d.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if notOurs(e.Name()) {
			continue
		}
		if err := d.removeTree(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// finishCreation removes the sign of an unfinished creation, once there is an identity.
func (d disk) finishCreation(dir string) error {
	err := d.Remove(filepath.Join(dir, creatingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.syncDir(dir)
}

// Files beside the segments: one that is in stock, and one that is being made a segment.
const (
	spareName = "spare.tmp"
	nextName  = "next.tmp"
)

const defaultSegmentSize = 64 << 20
