package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The lock of a file is on all of it but the first byte, and belongs to who has the file open: it ends with the last descriptor or mapping. The first byte has a lock that
// belongs to a process (POSIX), which keeps nobody out: the kernel says whose it is. Programs from before there was that one lock the whole file, and nobody knows whose that is.
var (
	lockedPart = unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 1}
	holderPart = unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Len: 1}
)

// lockPatience is how long Lock waits for who has the lock: a process that was killed has it until its memory is given back, see keepLock.
const lockPatience = 2 * time.Second

// tryLock takes the lock of a file that ends with the file's last descriptor, and reports whether somebody else holds it.
func tryLock(f *os.File) (held bool, err error) {
	part := lockedPart
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &part)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return true, err
	}
	if err == nil {
		part = holderPart
		_ = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &part) // without it others wait for us as for anybody
	}
	return false, err
}

// unlock gives the lock of a file back. An error leaves it to the end of the last descriptor.
func unlock(f *os.File) {
	for _, part := range []struct {
		cmd int
		unix.Flock_t
	}{{unix.F_SETLK, holderPart}, {unix.F_OFD_SETLK, lockedPart}} {
		part.Type = unix.F_UNLCK
		_ = unix.FcntlFlock(f.Fd(), part.cmd, &part.Flock_t)
	}
}

// heldByLiving reports whether a process has the lock of a file that is not about to end, so that it is no use to wait. It is false where that is
// not known for sure, and never true of a process that was killed before: the first thread of one that was does not sleep until it says of itself that it is ending.
func heldByLiving(f *os.File) bool {
	part := holderPart
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &part); err != nil || part.Type == unix.F_UNLCK || part.Pid <= 0 {
		return false // the last is a process of another namespace or machine, or a lock that is no process's
	}
	// /proc may be that of another namespace of processes, where the number is somebody else's.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", part.Pid))
	if err != nil {
		return false
	}
	return sleeps(stat)
}

// sleeps reports whether a process whose /proc/PID/stat this is (proc_pid_stat(5)) sleeps, and is not ending.
func sleeps(stat []byte) bool {
	const ending, signaled = 0x4, 0x400                        // PF_EXITING and PF_SIGNALED
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name may hold anything
	if len(f) < 7 || string(f[0]) != "S" {
		return false
	}
	flags, err := strconv.ParseUint(string(f[6]), 10, 64)
	return err == nil && flags&(ending|signaled) == 0
}

// keepLock has the memory of this process keep the lock of a file, too, by a mapping that nobody uses. A write that was handed to the kernel may be under way when
// the process is killed, and its files be closed before its memory is gone, where another process shares that (package heir). The kernel ends
// the writes that come from a memory first, and its mappings then: so no such write is left when somebody else gets the lock. Without
// a mapping, there are no such writes. The lock is no longer kept when release is called.
func keepLock(f *os.File) (release func()) {
	at, err := unix.MmapPtr(int(f.Fd()), 0, nil, mapped, unix.PROT_NONE, unix.MAP_SHARED)
	if err != nil {
		asyncWrites.off.Store(true)
		return func() {}
	}
	_ = unix.Madvise(unsafe.Slice((*byte)(at), mapped), unix.MADV_DONTFORK) // a copy of this process, as C code may make one, does not keep it
	return func() { _ = unix.MunmapPtr(at, mapped) }                        // cannot fail
}

// mapped is what is mapped of a file, in bytes, however much is in it: a page, or a part of one.
const mapped = 4096
