package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Open creates a member in dir when Empty says so, and recovers what is there otherwise. Errors: ErrLocked, ErrForeign and
// *IdentityError, after which nothing was written; *CorruptError when acknowledged data is damaged, after which nothing
// was changed.
func Open(dir string, o Options) (*WAL, error) {
	dir = filepath.Clean(dir)
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
	if err := acquireSegmentSize(o.SegmentSize); err != nil {
		return nil, err
	}
	if state == dirEmpty {
		if err := create(dir, o); err != nil {
			releaseSegmentSize()
			return nil, fmt.Errorf("storage: create %s: %w", dir, err)
		}
	}
	w := &WAL{dir: dir, logger: o.Logger, lock: lock, stop: make(chan struct{}), stopped: make(chan struct{})}
	if err := w.recover(); err != nil {
		releaseSegmentSize()
		return nil, err
	}
	go func() {
		defer close(w.stopped)
		w.mark.run(w.stop, w.fail)
	}()
	return w, nil
}

func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
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
	if err := os.Mkdir(snaps, 0o700); err != nil {
		return err
	}
	if o.Boot != nil {
		if err := checkSnapshot(o.Boot); err != nil {
			return err
		}
		if _, err := writeSnapshotFile(snaps, idOf(o.Boot).file(snapExt), o.Boot, nil); err != nil {
			return err
		}
	}
	if err := guard("create wal", func() error { return createWAL(wals, o) }); err != nil {
		return err
	}
	segs, err := listSegments(wals)
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
		err = m.sync()
	}
	if err := errors.Join(err, m.f.Close()); err != nil {
		return err
	}
	body, err := (&identityBody{Identity: o.Identity}).encode()
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

func createWAL(dir string, o Options) error {
	l, err := wal.Create(newZap(o.Logger), dir, o.Identity.metadata())
	if err != nil {
		return err
	}
	if o.Boot != nil {
		id := idOf(o.Boot)
		if err := l.SaveSnapshot(id.record(o.Boot.GetMetadata().GetConfState())); err != nil {
			return errors.Join(err, l.Close())
		}
		if err := l.Save(hardState{term: id.term, commit: id.index}.proto(), nil); err != nil {
			return errors.Join(err, l.Close())
		}
	}
	return l.Close()
}

func clearUnfinished(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		switch name := e.Name(); {
		case name == creatingName, name == lockName, name == "lost+found":
		default: // classify has made sure that it is ours
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// finishCreation removes the sign of an unfinished creation, once there is an identity.
func finishCreation(dir string) error {
	err := os.Remove(filepath.Join(dir, creatingName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// removeTemporary deletes the files that etcd's WAL had prepared for its next segment: it would reuse them as they are.
func removeTemporary(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

const defaultSegmentSize = 64 << 20

// segmentSize guards etcd's global segment size: it changes only while no WAL is open.
var segmentSize struct {
	sync.Mutex
	users int
}

func acquireSegmentSize(size int64) error {
	segmentSize.Lock()
	defer segmentSize.Unlock()
	if size < 0 {
		return fmt.Errorf("storage: segment size %d", size)
	}
	if segmentSize.users == 0 {
		if size == 0 {
			size = defaultSegmentSize
		}
		wal.SegmentSizeBytes = size
	} else if size != 0 && size != wal.SegmentSizeBytes {
		return fmt.Errorf("storage: segment size %d, but %d is in use in this process", size, wal.SegmentSizeBytes)
	}
	segmentSize.users++
	return nil
}

func releaseSegmentSize() {
	segmentSize.Lock()
	defer segmentSize.Unlock()
	segmentSize.users--
}

// record is the WAL's record of a snapshot. cs may be nil only where the record is looked for.
func (id snapID) record(cs *raftpb.ConfState) *walpb.Snapshot {
	return &walpb.Snapshot{Index: new(id.index), Term: new(id.term), ConfState: cs}
}
