//go:build !linux

package vfs

import (
	"io/fs"
	"math"
	"os"
	"syscall"
)

// Direct and Dsync are not for this system: OpenFile fails with EINVAL.
const (
	Direct = 1 << 29
	Dsync  = 1 << 28
)

func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if flag&(Direct|Dsync) != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	return os.OpenFile(name, flag, perm)
}

// reserve makes a file as long as that.
func reserve(f *os.File, size int64) error { return grow(f, size) }

func fdatasync(f *os.File) error { return f.Sync() }

func pread(f *os.File, b []byte, off int64) (int, error) { return f.ReadAt(b, off) }

func ahead(*os.File, int64, int64) {}

func dataFrom(_ *os.File, off int64) (from, to int64) { return off, math.MaxInt64 }

// freeSpace is not known here: a next segment that cannot be made tells that there is no space.
func freeSpace(string) (int64, bool) { return 0, false }

// lockPatience is how long Lock waits for who has the lock.
const lockPatience = 0

// heldByLiving is for who waits.
func heldByLiving(*os.File) bool { return true }

// keepLock is for asynchronous writes, which are not for this system.
func keepLock(*os.File) (release func()) { return func() {} }
