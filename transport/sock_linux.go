package transport

import (
	"math"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/internal/session"
)

// roundTrip asks the kernel.
func roundTrip(conn net.Conn) (r RoundTrip) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return r
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return r
	}
	_ = rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return
		}
		r = RoundTrip{Smoothed: time.Duration(info.Rtt) * time.Microsecond, Retransmitted: uint64(info.Total_retrans)}
		if info.Min_rtt != math.MaxUint32 { // else it has measured none
			r.Min = time.Duration(info.Min_rtt) * time.Microsecond
		}
	})
	return r
}

// nowWriter writes to a socket what fits into its buffer now.
type nowWriter struct {
	rc  syscall.RawConn
	try func(fd uintptr) // made once: a closure for each write would be garbage
	b   []byte
	err error
}

// newNowWriter returns nil if c is not a socket.
func newNowWriter(c net.Conn) *nowWriter {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	w := &nowWriter{rc: rc}
	w.try = func(fd uintptr) {
		n, err := session.WriteNow(fd, w.b)
		w.b, w.err = w.b[n:], err
	}
	return w
}

// write returns what did not fit. It never waits: the socket does not block, and RawConn's Control, unlike its Write,
// neither waits for somebody in the middle of a Write, whom the caller excludes, nor minds the deadline that he has left.
func (w *nowWriter) write(b []byte) (rest []byte, err error) {
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
