//go:build unix

package session

import (
	"io"
	"net"
	"os"
	"syscall"
)

// readerOf reads what comes over a connection.
func readerOf(conn net.Conn) io.Reader {
	if c, ok := conn.(*net.TCPConn); ok {
		if rc, err := c.SyscallConn(); err == nil {
			return newSocket(rc)
		}
	}
	return conn
}

// A socket reads as a *net.TCPConn does, by [ReadNow].
type socket struct {
	rc  syscall.RawConn
	try func(fd uintptr) (done bool) // made once: a closure for each read would be garbage
	b   []byte
	n   int
	err error

	beyond []byte // what comes behind b goes there, unless it is empty
}

func newSocket(rc syscall.RawConn) *socket {
	s := &socket{rc: rc}
	s.try = func(fd uintptr) bool {
		if len(s.beyond) > 0 {
			s.n, s.err = ReadPairNow(fd, s.b, s.beyond)
		} else {
			s.n, s.err = ReadNow(fd, s.b)
		}
		return s.err != syscall.EAGAIN
	}
	return s
}

func (s *socket) Read(b []byte) (int, error) { return s.readPair(b, nil) }

func (s *socket) readPair(b, beyond []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.b, s.beyond = b, beyond
	err := s.rc.Read(s.try)
	s.b, s.beyond = nil, nil
	switch {
	case err != nil:
		return 0, err
	case s.err != nil:
		return 0, os.NewSyscallError("read", s.err)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}
