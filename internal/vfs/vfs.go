// Package vfs is what a member's storage asks of a file system: as few calls as it needs, each with the promise that it
// rests on. [OS] is the real one. Package faultfs has one in memory that keeps no more than these promises.
//
// What survives a power cut, and nothing else does:
//
//   - The content of a file, up to what was written before the last Sync or Datasync that succeeded, and what was written
//     through a File opened with Dsync. Of what came later each block may be there or not.
//   - The names in a directory, as they were at the last Sync of the directory that succeeded. Of the changes made
//     later each may be there or not; a single Rename is there wholly or not at all.
//
// A Sync that has failed says nothing about what comes later: the next one may succeed and still leave out what the first one could
// not write. Errors are those of package os, and match syscall's error numbers.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is returned by Lock when somebody holds the lock.
var ErrLocked = errors.New("vfs: locked")

// An FS is a file system. All methods may be called concurrently.
type FS interface {
	// OpenFile is os.OpenFile. Besides its flags there are Direct and Dsync. A directory can be opened for reading, in order
	// to be synced.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Lock opens a file for writing, makes it if it is not there, and locks it for as long as it is open; or returns ErrLocked.
	// Who gets the lock finds no write under way of who had it before, even if that was killed. It may wait for that, 2 s at most,
	// but not for a process that is seen to live.
	Lock(name string) (File, error)
	// Mkdir, Rename, Remove, ReadDir, Stat and SameFile are those of package os.
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	SameFile(a, b fs.FileInfo) bool
	// Free returns how many bytes may still be written to the file system of a file, false when that is not known.
	Free(name string) (int64, bool)
}

// A File is an open file or directory. ReadAt, WriteAt and Stat may be called concurrently.
type File interface {
	// ReadAt and WriteAt of a file opened with Direct want memory, offset and size in multiples of 4096.
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Reserve makes the file at least so large, with space for all of it where the file system can allocate some in advance.
	Reserve(size int64) error
	// Sync makes all of the file durable; of a directory the names in it.
	Sync() error
	// Datasync makes the content durable, and of what else there is about the file what is needed to read it.
	Datasync() error
	// Ahead says that a range is about to be read. The system may begin to read it, and nobody waits for that. It means nothing of a file that was opened
	// with Direct.
	Ahead(off, size int64)
	// Data returns the first range, at or behind off, in which something was written; from is -1 if nothing was. Where that is
	// not known it is all from off on. What was read since is in it, too, on some file systems.
	Data(off int64) (from, to int64)
}
