package ha_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// A door is an address that leads to a member until somebody else has it.
type door struct {
	net.Listener
	mu    sync.Mutex // guards what follows
	conns []*net.TCPConn
	taken bool
}

func newDoor(t *testing.T, addr, to string) *door {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: ln}
	var wg sync.WaitGroup
	t.Cleanup(func() { d.take(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in.(*net.TCPConn), out.(*net.TCPConn))
			taken := d.taken
			d.mu.Unlock()
			if taken {
				d.take()
			}
			wg.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		}
	})
	return d
}

// take does what another host does that gets the address: it resets what it does not know, and refuses what is new.
func (d *door) take() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = true
	d.Close()
	for _, c := range d.conns {
		_ = c.SetLinger(0)
		c.Close()
	}
	d.conns = nil
}

// TestG4_AddressTaken: the Active's address becomes another host's while it lives. It is replaced, since its echoes do not come any more, but nobody takes the
// stranger's resets and refusals for its end. TestNames_Move does it with real hosts.
func TestG4_AddressTaken(t *testing.T) {
	t.Parallel()
	ended := make(chan ha.Previous, 100)
	behind, doors := map[string]string{}, map[string]*door{}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		cfg.Bind = behind[cfg.Name]
		cfg.OnFence = func(_ context.Context, p ha.Previous) error { ended <- p; return nil }
	})
	for _, m := range c.members {
		behind[m.Name] = loopback.Addr(t)
		doors[m.Name] = newDoor(t, m.Addr, behind[m.Name])
	}
	c.startAll()
	_, token := c.active()
	doors[token.Holder].take()
	c.activeOtherThan(token)
	for range len(ended) {
		if p := <-ended; p.Ended == ha.EndedGone {
			t.Errorf("the process of %s is said to be gone, and it lives", p.Name)
		}
	}
}
