package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// Remains are what is in a member's directory, opened for reading only: no member may have it open meanwhile, and nothing is
// written. Its methods are those of a [WAL].
type Remains struct {
	w    *WAL
	lock vfs.File // nil: it is on a file system where nobody can write
}

// OpenRemains reads a directory as [Open] does, and fails as that would, but changes nothing: what a crash has left unfinished
// is passed over. Errors are also one that matches fs.ErrNotExist where there is no member, and the cause of ctx, which ends every
// reading, later ones included. on is the file system, nil that of the operating system.
func OpenRemains(ctx context.Context, dir string, on vfs.FS) (*Remains, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	d := disk{vfs.OS}
	if on != nil {
		d.FS = on
	}
	lock, err := d.lockToRead(dir)
	if err != nil {
		return nil, err
	}
	w := &WAL{disk: disk{&readOnly{FS: d.FS, ctx: ctx}}, dir: dir, logger: slog.New(slog.DiscardHandler)}
	w.unpinned = sync.NewCond(&w.indexMu)
	r := &Remains{w, lock}
	if err := r.read(); err != nil {
		if cause := context.Cause(ctx); cause != nil { // what failed then says nothing
			err = cause
		}
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// lockToRead locks the directory of a member against those who write there, if anybody can.
func (d disk) lockToRead(dir string) (lock vfs.File, err error) {
	state, err := d.classify(dir)
	if err != nil {
		return nil, err
	}
	if state == dirEmpty {
		return nil, fmt.Errorf("%w in %s: %w", ErrNoMember, dir, fs.ErrNotExist)
	}
	if _, err := d.Stat(filepath.Join(dir, lockName)); err != nil {
		return nil, nil // it is a copy, and taking the lock would make the file
	}
	if lock, err = d.lockDir(dir); errors.Is(err, syscall.EROFS) {
		return nil, nil
	}
	return lock, err
}

func (r *Remains) read() error {
	w := r.w
	got, err := w.read()
	if err != nil {
		return err
	}
	if got.sc.torn == nil { // else etcd's decoder stops there
		if err := w.checkAgain(got.sc.segs, idOf(got.snap)); err != nil {
			return err
		}
	}
	w.last = w.view.last
	w.recovered = &recovered{hs: w.view.hs.proto(), last: max(w.view.last, idOf(got.snap).index), terms: w.view.termsAfter(idOf(got.snap).index)}
	if idOf(got.snap) != (snapID{}) {
		w.recovered.snap = got.snap
	}
	return nil
}

// Identity is as of a [WAL].
func (r *Remains) Identity() Identity { return r.w.Identity() }

// ClusterID is as of a [WAL].
func (r *Remains) ClusterID() [16]byte { return r.w.ClusterID() }

// Birth is as of a [WAL].
func (r *Remains) Birth() (together map[string]uint64, born bool) { return r.w.Birth() }

// Recovered is as of a [WAL].
func (r *Remains) Recovered() (hs *raftpb.HardState, snap *raftpb.Snapshot, last uint64, terms iter.Seq2[uint64, uint64]) {
	return r.w.Recovered()
}

// First is as of a [WAL].
func (r *Remains) First() uint64 { return r.w.First() }

// Entries is as of a [WAL].
func (r *Remains) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	return r.w.Entries(lo, hi, maxBytes)
}

// OpenSnapshot is as of a [WAL].
func (r *Remains) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	return r.w.OpenSnapshot()
}

// Close lets others have the directory.
func (r *Remains) Close() error {
	r.w.closed.Store(true)
	r.w.readers.close()
	var err error
	if r.w.mark != nil {
		err = r.w.mark.f.Close()
	}
	if r.lock != nil {
		err = errors.Join(err, r.lock.Close())
	}
	return err
}
