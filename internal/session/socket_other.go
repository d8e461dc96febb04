//go:build !unix

package session

import (
	"io"
	"net"
)

// readerOf reads as the connection does: what is a handle, and no descriptor, can only be read by Go's runtime.
func readerOf(conn net.Conn) io.Reader { return conn }
