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

// ReadPairNow reads what is there to b, and what does not fit to beyond. Neither is empty.
func ReadPairNow(fd uintptr, b, beyond []byte) (n int, err error) {
	pair := [2]syscall.Iovec{{Base: &b[0]}, {Base: &beyond[0]}}
	pair[0].SetLen(len(b))
	pair[1].SetLen(len(beyond))
	return again(syscall.SYS_READV, fd, unsafe.Pointer(&pair), len(pair))
}

func call(number, fd uintptr, b []byte) (n int, err error) {
	return again(number, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b))
}

func again(number, fd uintptr, p unsafe.Pointer, count int) (n int, err error) {
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(p), uintptr(count))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
