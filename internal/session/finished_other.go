//go:build !linux

package session

import "net"

// finished is only known on Linux. What comes over loopback, nobody else can have sent.
func finished(conn net.Conn) bool {
	for _, a := range []net.Addr{conn.LocalAddr(), conn.RemoteAddr()} {
		if t, ok := a.(*net.TCPAddr); !ok || !t.IP.IsLoopback() {
			return false
		}
	}
	return true
}
