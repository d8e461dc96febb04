//go:build !linux

package session

import "syscall"

// setSegmentSize is only known on Linux.
func setSegmentSize(syscall.RawConn, int) error { return nil }
