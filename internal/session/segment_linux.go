package session

import "syscall"

// setSegmentSize bounds the segments of a connection that is not made yet, in both directions.
func setSegmentSize(rc syscall.RawConn, size int) error {
	// Best effort: without it the connection is as any other.
	return rc.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, size) })
}
