package storage

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrLocked is returned by Open when the directory is open already, in this process or in another one. On Linux Open waits 2 s before that, unless
	// the other process is seen to live: of one that was killed, the memory may have to be given back yet.
	ErrLocked = errors.New("storage: directory is locked by another user")
	// ErrNoMember is returned by Inspect, Read and Verify when there is no directory, or an empty one. The error matches fs.ErrNotExist, too.
	ErrNoMember = errors.New("storage: no member")
	// ErrForeign is returned by Empty, Read and Open when the directory holds files that are not ours.
	ErrForeign = errors.New("storage: directory holds foreign files")
	// ErrCompacted is returned by Entries when lo is below First, and by the snapshot methods when a newer snapshot is in
	// force already.
	ErrCompacted = errors.New("storage: index was compacted")
	// ErrUnavailable is returned by Entries when lo is beyond the last durable entry.
	ErrUnavailable = errors.New("storage: index is not written yet")
	// ErrNoSnapshot is returned by OpenSnapshot when none is in force, and by InstallSnapshot when it was not staged.
	ErrNoSnapshot = errors.New("storage: no such snapshot")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("storage: closed")
	// ErrClusterID is returned by SetClusterID when another id is set already.
	ErrClusterID = errors.New("storage: directory belongs to another cluster id")
)

// IdentityError is returned by Open when the directory belongs to another member. Nothing was written.
type IdentityError struct {
	Dir        string
	Want, Have Identity
}

func (e *IdentityError) Error() string {
	return fmt.Sprintf("storage: %s belongs to member %q of cluster %q (id %x, incarnation %x), not to %q of %q (id %x, incarnation %x)",
		e.Dir, e.Have.Member, e.Have.Cluster, e.Have.ID, e.Have.Incarnation,
		e.Want.Member, e.Want.Cluster, e.Want.ID, e.Want.Incarnation)
}

// StrangerError is returned by Meet when the member was met before under another incarnation: it has lost its disk, and
// with it its votes.
type StrangerError struct {
	Member     string
	Known, Got uint64
}

func (e *StrangerError) Error() string {
	return fmt.Sprintf("storage: member %q has incarnation %x, known is %x", e.Member, e.Got, e.Known)
}

// CorruptError says that File is damaged at Offset. Open changes nothing on disk when it returns one.
type CorruptError struct {
	File   string
	Offset int64
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("storage: %s is corrupt at offset %d: %v", e.File, e.Offset, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// fileError is a *CorruptError when the file is gone or cannot be read, and a plain one when the fault is elsewhere, such as
// in a lack of descriptors, of permission or of space.
func fileError(file string, off int64, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.ENOENT && errno != syscall.EIO && errno != syscall.EISDIR && errno != syscall.ENOTDIR {
		return fmt.Errorf("storage: %s: %w", file, err)
	}
	return &CorruptError{File: file, Offset: off, Err: err}
}

// unread tells whether err is of the system, and not about what was read.
func unread(err error) bool { return errors.As(err, new(syscall.Errno)) }

func isCorrupt(err error) bool {
	var ce *CorruptError
	return errors.As(err, &ce)
}

func corrupt(file string, off int64, format string, args ...any) error {
	return &CorruptError{File: file, Offset: off, Err: fmt.Errorf(format, args...)}
}

// scarce reports whether err says that there is not enough space, descriptors or memory just now: nothing was written, and
// nothing is broken.
func scarce(err error) bool {
	return noSpace(err) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// A LostError says that a running member's directory is no longer where it was: File is gone, or another one has its name.
type LostError struct {
	File string
	Err  error // nil: another one has its name
}

func (e *LostError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("storage: %s is another file than the one that is open: the directory was replaced", e.File)
	}
	return fmt.Sprintf("storage: %s is gone: the directory was deleted or moved away: %v", e.File, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// guard runs code of etcd's and turns its panic into an error.
func guard(what string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v", what, p)
		}
	}()
	if err := fn(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
