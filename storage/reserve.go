package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// reserveName is the file that keeps space for when the disk is full, beside the segments.
const reserveName = "reserve.tmp"

// What Options mean by zero.
const (
	defaultMinFree = 16 << 20
	defaultReserve = 16 << 20
)

// reserve is a file that does nothing but take space. When others have filled the disk it is deleted, so that what must be written
// then can be: a checkpoint, by which log can be given up, the identity, the state with which a start goes on. As long as it is
// missing, its size does not count as free: nothing is appended before it is there again. It is owned by the goroutine of Watch;
// others may look whether it is there.
type reserve struct {
	disk  disk
	path  string
	size  int64
	there atomic.Bool
}

func (d disk) newReserve(dir string, size int64) *reserve {
	r := &reserve{disk: d, path: filepath.Join(dir, walName, reserveName), size: size}
	fi, err := d.Stat(r.path)
	r.there.Store(err == nil && fi.Size() >= size)
	return r
}

// giveUp deletes it.
func (r *reserve) giveUp() error {
	err := r.disk.Remove(r.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.there.Store(false)
	return nil
}

// balance makes the file where so much space is free that as much as is wanted is left, and gives it up where half of the least that
// should be free is not. It returns what is free for others than itself.
func (r *reserve) balance(free, least, want int64) (int64, error) {
	if r.size == 0 {
		return free, nil
	}
	switch {
	case r.there.Load() && free < least/2:
		if err := r.giveUp(); err != nil {
			return free, err
		}
		return free, nil // what it took is not counted as free
	case !r.there.Load() && free >= r.size+want:
		err := r.disk.reserve(r.path, r.size)
		if err != nil {
			return free - r.size, errors.Join(err, r.giveUp()) // half of it may be there
		}
		r.there.Store(true)
		return free - r.size, nil
	}
	return free - r.missing(), nil
}

// missing is what it still takes.
func (r *reserve) missing() int64 {
	if r.there.Load() {
		return 0
	}
	return r.size
}

// sayGivenUp is said where the log goes on: where it does not, the error has it.
func (w *WAL) sayGivenUp() {
	w.logger.Warn("the disk is nearly full: the space that was reserved for that is given up", "file", w.reserve.path, "bytes", w.reserve.size)
}

// makeRoom gives up what a start can do without, if the disk is full.
func (w *WAL) makeRoom() error {
	free, ok := w.disk.Free(filepath.Join(w.dir, walName))
	if !ok || free >= w.minFree/2 || !w.reserve.there.Load() {
		return nil
	}
	w.sayGivenUp()
	if err := w.reserve.giveUp(); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}

// scanty tells whether less is free than must be. want is what must be.
func (w *WAL) scanty(want int64) error {
	dir := filepath.Join(w.dir, walName)
	free, ok := w.disk.Free(dir)
	if !ok {
		return nil
	}
	w.tally.free.Store(free + 1)
	was := w.reserve.there.Load()
	left, err := w.reserve.balance(free, w.minFree, want)
	switch {
	case left < want && !w.reserve.there.Load() && w.reserve.size > 0:
		return fmt.Errorf("storage: %d bytes are free at %s: %d must be, and %d to reserve again what is used for checkpoints meanwhile: %w", max(free, 0), dir, want,
			w.reserve.size, syscall.ENOSPC)
	case left < want:
		return fmt.Errorf("storage: %d bytes are free at %s, at least %d must be: %w", free, dir, want, syscall.ENOSPC)
	case was && !w.reserve.there.Load():
		w.sayGivenUp()
	case err != nil && !scarce(err):
		w.logger.Warn("cannot keep space for when the disk is full", "file", w.reserve.path, "err", err)
	}
	return nil
}
