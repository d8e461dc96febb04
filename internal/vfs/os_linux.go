package vfs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// Direct has files read and written past the page cache. Not every file system can do that: then OpenFile or the first
	// ReadAt or WriteAt fails with EINVAL.
	Direct = syscall.O_DIRECT
	// Dsync makes each WriteAt durable before it returns.
	Dsync = syscall.O_DSYNC
)

func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// reserve makes a file as long as that, with blocks where the file system can.
func reserve(f *os.File, size int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, 0, size); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP):
			return grow(f, size)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}

func fdatasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func pread(f *os.File, b []byte, off int64) (int, error) {
	for {
		n, err := syscall.Pread(int(f.Fd()), b, off)
		if err != syscall.EINTR {
			return max(n, 0), os.NewSyscallError("pread", err)
		}
	}
}

func ahead(f *os.File, off, size int64) {
	_ = unix.Fadvise(int(f.Fd()), off, size, unix.FADV_WILLNEED)
}

func dataFrom(f *os.File, off int64) (from, to int64) {
	from, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return -1, -1
	}
	if err == nil {
		to, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE)
	}
	if err != nil {
		return off, math.MaxInt64
	}
	return from, to
}

func freeSpace(name string) (int64, bool) {
	var st syscall.Statfs_t
	if syscall.Statfs(name, &st) != nil || st.Bsize <= 0 {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
