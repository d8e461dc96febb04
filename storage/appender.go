package storage

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/baton-ha/baton/internal/vfs"
)

const (
	// blockSize is the unit in which segments are written: what file systems and disks want of writes that pass the page
	// cache by. A power of two.
	blockSize = 4096
	// keepBuffer is the largest buffer that an appender keeps.
	keepBuffer = 4 << 20
	// frameHead is the size of the length word. A word of zero ends the log.
	frameHead = 8
)

// appender writes records to the end of one segment. It writes whole blocks, again those that were not full, and fills the
// last one up with zeros: so a zero always follows the last record, whatever the file held there before.
type appender struct {
	encoder       // b is what is not durable yet, and before it what its first block holds already
	at      int64 // of b in the file, a multiple of blockSize
	synced  int   // of b: so much is durable
	f       syncedFile
	room    *room // of the same file
	tally   *tally
}

// newAppender goes on in a file that holds end bytes, whose running checksum is crc. It makes them durable, cuts off what
// comes after them, and takes it that the blocks up to ready have been written before.
func (d disk) newAppender(path string, end int64, crc uint32, ready int64, t *tally) (*appender, error) {
	f, size, err := d.openSized(path)
	if err != nil {
		return nil, err
	}
	a := &appender{at: roundDown(end), tally: t}
	a.crc, a.b = crc, aligned(2 * blockSize)[:end-a.at]
	_, err = f.ReadAt(a.b, a.at)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	for _, direct := range []bool{true, false} {
		if a.f, err = d.openSynced(path, direct); err == nil {
			a.room = newRoom(a.f, ready, size, t)
			if _, err = a.sync(); err == nil {
				return a, nil
			}
			a.f.Close()
		}
		if !errors.Is(err, syscall.EINVAL) {
			break // else the file system cannot do it
		}
	}
	return nil, err
}

// end is where the next record goes.
func (a *appender) end() int64 { return a.at + int64(len(a.b)) }

// unsynced is how many bytes are not durable yet.
func (a *appender) unsynced() int { return len(a.b) - a.synced }

// begin is called before each record: the first of those that are made durable together follows a boundary.
func (a *appender) begin(incarnation, seq uint64) {
	if len(a.b) == a.synced {
		a.boundary(incarnation, seq, a.end())
	}
}

// sync makes all records durable. It reports whether more room should be made.
func (a *appender) sync() (low bool, err error) {
	end := len(a.b)
	full := roundUp(end + frameHead)
	if cap(a.b) < full || !isAligned(a.b) { // append has moved it
		a.b = append(aligned(full+full/4), a.b...)
	}
	a.b = a.b[:full]
	clear(a.b[end:])
	low = a.room.take(a.at, int64(full))
	began := time.Now()
	err = a.f.writeAt(a.b, a.at, &a.tally.written)
	a.tally.writes.Observe(int64(time.Since(began)))
	if err != nil {
		a.b = a.b[:end]
		return false, err
	}
	kept := roundDown(end)
	rest := a.b[kept:end]
	if cap(a.b) > keepBuffer {
		a.b = aligned(blockSize)
	}
	a.b = append(a.b[:0], rest...)
	a.at, a.synced = a.at+int64(kept), len(rest)
	return low, nil
}

// finish ends the segment where its records end, and closes it.
func (a *appender) finish() error {
	a.room.close()
	err := a.f.Truncate(a.end())
	if err == nil {
		err = a.f.Datasync()
	}
	return errors.Join(err, a.f.Close())
}

// close closes the file. What is not durable is lost.
func (a *appender) close() error {
	a.room.close()
	return a.f.Close()
}

// syncedFile is a file whose writes are durable when they return.
type syncedFile struct {
	vfs.File
	direct bool // the kernel does that, and passes the page cache by; it wants whole, aligned blocks
}

// openSynced opens a segment for writing. Not every file system can do it directly: then opening it or writing to it
// fails with EINVAL.
func (d disk) openSynced(path string, direct bool) (syncedFile, error) {
	flags := os.O_RDWR
	if direct {
		flags |= vfs.Direct | vfs.Dsync
	}
	f, err := d.OpenFile(path, flags, 0)
	return syncedFile{f, direct}, err
}

// maxWrite bounds the bytes that are written at a time, so that it can be seen whether the disk gets on.
const maxWrite = 1 << 20

// writeAt writes and syncs b, and counts the bytes in written as it goes.
func (f syncedFile) writeAt(b []byte, off int64, written *atomic.Uint64) error {
	for len(b) > 0 {
		part := b[:min(len(b), maxWrite)]
		if _, err := f.File.WriteAt(part, off); err != nil {
			return err
		}
		if !f.direct {
			if err := f.Datasync(); err != nil {
				return err
			}
		}
		written.Add(uint64(len(part)))
		b, off = b[len(part):], off+int64(len(part))
	}
	return nil
}

// roundDown and roundUp give the multiple of blockSize next to n.
func roundDown[T int | int64](n T) T { return n &^ (blockSize - 1) }
func roundUp[T int | int64](n T) T   { return roundDown(n + blockSize - 1) }

// aligned returns an empty buffer of at least so many bytes whose memory begins at a multiple of blockSize.
func aligned(size int) []byte {
	size = roundUp(size)
	b := make([]byte, size+blockSize)
	skip := int(-address(b) & (blockSize - 1))
	return b[skip : skip : skip+size]
}

func isAligned(b []byte) bool { return address(b)&(blockSize-1) == 0 }

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }
