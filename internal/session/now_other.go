//go:build unix && (!linux || race)

package session

import "syscall"

// The race detector takes what was written to a socket and read from it for an order, if it goes through package syscall.

// ReadNow reads what is there, from a socket that does not block.
func ReadNow(fd uintptr, b []byte) (n int, err error) { return again(syscall.Read, fd, b) }

// ReadPairNow is ReadNow: what does not fit into b is left to the next one.
func ReadPairNow(fd uintptr, b, _ []byte) (n int, err error) { return ReadNow(fd, b) }

// WriteNow writes what fits, to a socket that does not block.
func WriteNow(fd uintptr, b []byte) (n int, err error) { return again(syscall.Write, fd, b) }

func again(call func(fd int, b []byte) (int, error), fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = call(int(fd), b); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
