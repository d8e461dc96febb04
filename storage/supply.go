package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// supply has the file for the next segment ready, and makes room in the last one. Files of segments that were given up are
// used again, since all their blocks have been written before; what they hold is behind the zeros that end the log.
type supply struct {
	disk   disk
	path   string        // of the file, while there is one
	size   int64         // of a segment
	stock  *atomic.Int64 // size of the file, 0 while there is none
	make   func(path string, size int64) error
	keep   func() int64         // bytes of the disk that must be free beside it
	wake   chan struct{}        // 1: there is an order
	looked chan struct{}        // 1: Watch is to see whether there is a file
	room   atomic.Pointer[room] // of the last segment

	mu    sync.Mutex // guards what follows; held while a file is made
	have  bool
	made  int64 // its size, if it is not larger
	ready int64 // bytes of it that were written before
}

// order asks for room to be made, and then for a file.
func (s *supply) order(r *room) {
	s.room.Store(r)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run does what was ordered, until stop is closed or something fails. That there is no space or no descriptor for what is
// made ahead is no failure: the log does without, and it is tried again later.
func (s *supply) run(stop <-chan struct{}, fail func(error) error) {
	for {
		select {
		case <-s.wake:
		case <-stop:
			return
		}
		half, err := s.room.Load().extend()
		if err != nil && !scarce(err) {
			fail(fmt.Errorf("storage: write ahead of the log: %w", err))
			return
		}
		if half {
			_ = s.prepare() // take and Watch try again
			select {
			case s.looked <- struct{}{}:
			default:
			}
		}
	}
}

// smallestPart is the part of a segment's size that the next one has at least: what is on its way must fit into the last six sixteenths.
const smallestPart = 4

// fit returns the size of a segment's file for which there is space, where have bytes of it are there: all of it, or on a small disk a half or a
// quarter. To look before anything is taken matters: what then turns out not to fit was missing to everybody else meanwhile.
func (s *supply) fit(have int64) (int64, error) {
	free, ok := s.disk.Free(filepath.Dir(s.path))
	if !ok {
		return s.size, nil
	}
	keep := s.keep()
	for size := s.size; size >= s.size/smallestPart; size /= 2 {
		if size <= have || size-have <= free-keep {
			return size, nil
		}
	}
	return 0, fmt.Errorf("%d bytes are free, a segment takes at least %d, and %d must be left: %w", free, s.size/smallestPart, keep, syscall.ENOSPC)
}

// enlarge makes a file, of which have bytes are there, as large as a segment is to be, as far as there is space, and returns that.
func (s *supply) enlarge(path string, have int64) (size int64, err error) {
	if size, err = s.fit(have); err == nil {
		err = s.make(path, size)
	}
	return size, err
}

// prepare makes the file if there is none. Its first blocks are written when it has become a segment.
func (s *supply) prepare() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.have {
		return nil
	}
	size, err := s.enlarge(s.path, 0)
	if err != nil {
		_ = s.disk.Remove(s.path) // it may hold the last blocks there are; if it is not there, neither does it hold any
		return err
	}
	s.have, s.made, s.ready = true, size, 0
	s.stock.Store(size)
	return nil
}

// take names the file to, and returns how many bytes of it were written before.
func (s *supply) take(to string) (ready int64, err error) {
	if err := s.prepare(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.disk.Rename(s.path, to); err != nil {
		return 0, err
	}
	s.have = false
	s.stock.Store(0)
	return s.ready, nil
}

// putBack takes a file back that take has named.
func (s *supply) putBack(from string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk.Rename(from, s.path) == nil {
		s.have = true
		s.stock.Store(max(s.made, s.ready))
	}
}

// retire takes the file of a segment that is given up and that nobody reads, in place of one that has less to offer. Its old
// name is gone for good before anything is written to it.
func (s *supply) retire(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := s.disk.Stat(path)
	if err != nil {
		return err
	}
	if s.have && s.ready >= fi.Size() {
		return s.disk.Remove(path)
	}
	if err := s.disk.Rename(path, s.path); err != nil {
		return err
	}
	s.have, s.ready = true, fi.Size()
	err = s.disk.syncDir(filepath.Dir(s.path))
	if err == nil {
		s.made, err = s.enlarge(s.path, s.ready)
	}
	if err != nil { // nothing needs it
		s.have = false
		s.stock.Store(0)
		return s.disk.Remove(s.path)
	}
	s.stock.Store(max(s.made, s.ready))
	return nil
}

// close deletes the file.
func (s *supply) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.have {
		return nil
	}
	s.have = false
	s.stock.Store(0)
	return s.disk.Remove(s.path)
}

// reserve makes the file at least so large, with its space allocated where the file system can do that.
func (d disk) reserve(path string, size int64) error {
	f, err := d.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() < size {
		err = f.Reserve(size)
		if err == nil {
			err = f.Sync()
		}
	}
	return errors.Join(err, f.Close())
}
