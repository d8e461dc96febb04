package transport

import (
	"math"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
