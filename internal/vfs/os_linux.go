package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"
	"unsafe"

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

// tryLock takes the lock of a file that ends with the file's last descriptor, and reports whether somebody else holds it.
func tryLock(f *os.File) (held bool, err error) {
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES), err
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

// unlock gives the lock of a file back. An error leaves it to the end of the last descriptor.
func unlock(f *os.File) {
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart})
}

// lockPatience is how long Lock waits for who has the lock: a process that was killed has it until its memory is given back, see keepLock.
const lockPatience = 2 * time.Second

// keepLock has the memory of this process keep the lock of a file, too, by a mapping that nobody uses. A write that was handed to the kernel may be under way when
// the process is killed, and its files be closed before its memory is gone, where another process shares that (package heir). The kernel ends
// the writes that come from a memory first, and its mappings then: so no such write is left when somebody else gets the lock. Without
// a mapping, there are no such writes. The lock is no longer kept when release is called.
func keepLock(f *os.File) (release func()) {
	at, err := unix.MmapPtr(int(f.Fd()), 0, nil, blockSize, unix.PROT_NONE, unix.MAP_SHARED)
	if err != nil {
		asyncWrites.off.Store(true)
		return func() {}
	}
	_ = unix.Madvise(unsafe.Slice((*byte)(at), blockSize), unix.MADV_DONTFORK) // a copy of this process, as C code may make one, does not keep it
	return func() { _ = unix.MunmapPtr(at, blockSize) }                        // cannot fail
}

// blockSize is what is mapped of a file, however much is in it: a page, or a part of one.
const blockSize = 4096
