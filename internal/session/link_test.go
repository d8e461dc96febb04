package session

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// slowConn takes so much before each deadline.
type slowConn struct {
	net.Conn
	each, left, took int
}

func (c *slowConn) SetWriteDeadline(time.Time) error {
	c.left = c.each
	return nil
}

func (c *slowConn) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left, c.took = c.left-n, c.took+n
	if n < len(b) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

// Who takes what must be taken within the timeout is sent all, however much that is, and who takes less is given up.
func TestSendAllOverSlowPaths(t *testing.T) {
	for _, c := range []struct {
		each int
		all  bool
	}{{1 << 20, true}, {pieceSize, true}, {pieceSize - 1, false}, {0, false}} {
		conn := &slowConn{each: c.each}
		l := &Link{Conn: conn, Raw: conn}
		err := l.sendAll(net.Buffers{make([]byte, 100<<10), nil, make([]byte, 412<<10)}, time.Hour)
		if all := err == nil && conn.took == 512<<10; all != c.all || !all && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d before each deadline: %d were taken, %v", c.each, conn.took, err)
		}
	}
}
