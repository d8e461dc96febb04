package session

import (
	"os"
	"syscall"
)

// NowWriter writes to a socket what fits into its buffer now.
type NowWriter struct {
	rc  syscall.RawConn
	try func(fd uintptr) // made once: a closure for each write would be garbage
	b   []byte
	err error
}

// NewNowWriter returns what writes to a connection without waiting, or nil: if it is no socket, or TLS, since of a record all must be
// written, or nothing.
func NewNowWriter(l *Link) *NowWriter {
	if l.Conn != l.Raw {
		return nil
	}
	sc, ok := l.Raw.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &NowWriter{rc: rc}
	w.try = func(fd uintptr) {
		n, err := WriteNow(fd, w.b)
		w.b, w.err = w.b[n:], err
	}
	return w
}

// Write returns what did not fit. It never waits: the socket does not block, and RawConn's Control, unlike its Write,
// neither waits for somebody in the middle of a Write, whom the caller excludes, nor minds the deadline that he has left.
func (w *NowWriter) Write(b []byte) (rest []byte, err error) {
	w.b = b
	if err := w.rc.Control(w.try); err != nil {
		return b, err
	}
	rest, w.b = w.b, nil
	if w.err != nil && w.err != syscall.EAGAIN {
		return rest, os.NewSyscallError("write", w.err)
	}
	return rest, nil
}
