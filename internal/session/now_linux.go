//go:build !race

package session

import (
	"syscall"
	"unsafe"
)

// These are read(2) and write(2) on a socket that does not block, without telling Go's scheduler, as syscall.Read does, that they might. In a
// process that had nothing to do that wakes a thread which watches for calls that do block, each time: of what a heartbeat costs it was a third.

// ReadNow reads what is there.
func ReadNow(fd uintptr, b []byte) (n int, err error) { return call(syscall.SYS_READ, fd, b) }

// WriteNow writes what fits.
func WriteNow(fd uintptr, b []byte) (n int, err error) { return call(syscall.SYS_WRITE, fd, b) }

func call(number, fd uintptr, b []byte) (n int, err error) {
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
