//go:build !linux

package transport

import "net"

// roundTrip is only known on Linux.
func roundTrip(net.Conn) RoundTrip { return RoundTrip{} }
