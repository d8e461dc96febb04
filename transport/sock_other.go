//go:build !linux

package transport

import "net"

// roundTrip is only known on Linux.
func roundTrip(net.Conn) RoundTrip { return RoundTrip{} }

// nowWriter is only known on Linux; elsewhere all is left to the writers of the lanes.
type nowWriter struct{}

func newNowWriter(net.Conn) *nowWriter { return nil }

func (*nowWriter) write(b []byte) (rest []byte, err error) { return b, nil }
