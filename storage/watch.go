package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/internal/vfs"
)

// A Space says how much room a member has for what is appended.
type Space int

const (
	// SpaceEnough: there is room for the next segment.
	SpaceEnough Space = iota
	// SpaceLow: the disk is nearly full, or the next segment cannot be made and more than half of the last one is written.
	// New records are to be refused; what has been accepted, and epochs and votes for a long time, find room.
	SpaceLow
	// SpaceOut: there is no next segment, and so much of the last one is written that the rest is for what is on its way
	// already, and for epochs and votes.
	SpaceOut
)

// Watch says how to watch a directory.
type Watch struct {
	// Every is the interval; zero means a second.
	Every time.Duration
	// Space is told how much room there is, at first and when that changes, with the reason; and that again while there is little,
	// every ten seconds, if it has changed.
	Space func(Space, error)
	// Lost is told, once, that the directory is no longer there. After it has returned nothing is written any more.
	Lost func(error)
}

// Watch looks once in a while whether the directory is still there and has room, from now on until Close. A file that was
// opened can be written to long after its directory was deleted, and everything in it is lost. The calls come from a
// goroutine of its own.
func (w *WAL) Watch(c Watch) {
	if c.Every == 0 {
		c.Every = time.Second
	}
	w.workers.Go(func() {
		tick := moment.NewTicker(c.Every) // of all members on a host: a directory above them all is not missed by one first, and the role handed to one that stops next
		defer tick.Stop()
		var said string
		var saidAt time.Time
		for last := Space(-1); ; {
			if err := w.watched.lost(); err != nil {
				c.Lost(err)
				w.fail(err)
				return
			}
			if now, why := w.space(last); now != last || why != nil && why.Error() != said && time.Since(saidAt) >= sayAgain {
				if last, saidAt = now, time.Now(); why != nil {
					said = why.Error()
				}
				c.Space(now, why)
			}
			select {
			case <-tick.C:
			case <-w.supply.looked:
			case <-w.stop:
				return
			}
		}
	})
}

const sayAgain = 10 * time.Second

// space tells how much room there is. What was not enough is enough only when there is somewhat more.
func (w *WAL) space(last Space) (Space, error) {
	r := w.supply.room.Load()
	left := r.left()
	used := r.size - left
	if used >= r.size/16*fullStages[0] {
		if err := w.supply.prepare(); noSpace(err) && used >= r.size/16*fullStages[1] { // for want of descriptors the last one can grow
			err = fmt.Errorf("storage: no next segment, %d bytes left in the last one: %w", max(0, left), err)
			if used >= r.size/16*fullStages[2] {
				return SpaceOut, err
			}
			return SpaceLow, err
		}
	}
	want := w.minFree
	if last > SpaceEnough {
		want = wantAgain(want)
	}
	if err := w.scanty(want); err != nil {
		return SpaceLow, err
	}
	return SpaceEnough, nil
}

// wantAgain is how much must be free where less than want was.
func wantAgain(want int64) int64 { return want + want/2 }

// watched are the files by which a directory is recognised.
type watched struct {
	disk  disk
	wal   vfs.File // the directory of the segments, open so that it can be synced when there are no descriptors
	snaps vfs.File // that of the snapshots, likewise
	files []namedFile
	tail  atomic.Pointer[namedFile] // the last segment
}

// A namedFile is a file that must be found under a path.
type namedFile struct {
	path string
	info fs.FileInfo // nil: it cannot be told whether it is
}

// name takes note of an open file that has a name. If another one seems to have it already, the file system does not tell
// its files apart.
func (d disk) name(path string, f vfs.File) namedFile {
	info, err := f.Stat()
	if there, serr := d.Stat(path); err != nil || serr != nil || !d.SameFile(info, there) {
		info = nil
	}
	return namedFile{path, info}
}

// begin opens the directory of the segments and takes note of everything that must stay where it is.
func (d *watched) begin(on disk, dir string, lock, mark vfs.File, tail string, out vfs.File) (err error) {
	d.disk = on
	if d.wal, err = d.disk.open(filepath.Join(dir, walName)); err != nil {
		return err
	}
	if d.snaps, err = d.disk.open(filepath.Join(dir, snapName)); err != nil {
		return err
	}
	d.files = []namedFile{
		d.disk.name(filepath.Join(dir, lockName), lock), d.disk.name(filepath.Join(dir, markName), mark),
		d.disk.name(filepath.Join(dir, walName), d.wal), d.disk.name(filepath.Join(dir, snapName), d.snaps),
	}
	d.setTail(tail, out)
	return nil
}

// setTail takes note of the last segment.
func (d *watched) setTail(path string, f vfs.File) {
	one := d.disk.name(path, f)
	d.tail.Store(&one)
}

// lost returns a *LostError if one of the files is not where it was. An error that says nothing about that is none.
func (d *watched) lost() error {
	for _, f := range d.files {
		if err := f.lost(d.disk); err != nil {
			return err
		}
	}
	tail := d.tail.Load()
	if err := tail.lost(d.disk); err != nil && d.tail.Load() == tail { // else it was finished meanwhile, and perhaps compacted
		return err
	}
	return nil
}

func (f *namedFile) lost(d disk) error {
	if f.info == nil {
		return nil
	}
	there, err := d.Stat(f.path)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return &LostError{File: f.path, Err: err}
	case err == nil && !d.SameFile(f.info, there):
		return &LostError{File: f.path}
	}
	return nil
}

func (d *watched) close() (err error) {
	for _, f := range []vfs.File{d.wal, d.snaps} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// checkWritable reports why no file can be made in dir, if that is not for want of space.
func (d disk) checkWritable(dir string) error {
	f, err := d.createTemp(dir, "probe-*"+tmpExt)
	if scarce(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), d.Remove(f.Name()))
}
