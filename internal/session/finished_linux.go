package session

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// closeWait is TCP_CLOSE_WAIT of linux/net/tcp_states.h: a FIN has come, and nothing has reset the connection. That a read has returned 0 does
// not say so: it does after a reset, too, once a write has taken the error.
const closeWait = 8

func finished(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	state := uint8(0)
	_ = rc.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			state = info.State
		}
	})
	return state == closeWait
}
