//go:build !linux

package transport

import (
	"net"
	"time"
)

// setUserTimeout is only known on Linux; elsewhere the kernel's retransmission timeout ends a connection into nowhere.
func setUserTimeout(net.Conn, time.Duration) {}
