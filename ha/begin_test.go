package ha_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// Who has lost its directory is not begun anew while the one that remembers it is there and answers late.
func TestT13_KnownNameAnsweredLate(t *testing.T) {
	t.Parallel()
	c := used(t)
	c.stop("b")
	c.stop("c")
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	go func() {
		for {
			conn, err := late.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				time.Sleep(1100 * time.Millisecond) // more than one that is not there is waited for
				to, err := net.Dial("tcp", c.members[0].Addr)
				if err != nil {
					return
				}
				defer to.Close()
				go func() { _, _ = io.Copy(to, conn) }()
				_, _ = io.Copy(conn, to)
			}()
		}
	}()
	cfg := c.config("c")
	cfg.Dir += "-lost"
	cfg.Members = []ha.Member{{Name: "a", Addr: late.Addr().String()}, c.members[1], c.members[2]}
	n, err := ha.Open(cfg)
	if err == nil {
		n.Close()
	}
	if !errors.Is(err, ha.ErrForgotten) {
		t.Errorf("open: %v", err)
	}
	if got := tree(t, cfg.Dir); got != "" {
		t.Errorf("the refused start has left\n%s", got)
	}
}
