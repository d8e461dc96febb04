package transport

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

func TestGoneOnlyWhenNobodyListens(t *testing.T) {
	t.Parallel()
	a, _, px := throughProxy(t)
	for range 3 { // cuts, while the listener lives
		a.rmu.Lock()
		before := len(a.lost)
		a.rmu.Unlock()
		px.cut()
		a.wait(t, "break", func() bool { return len(a.lost) > before })
		a.connected(t)
	}
	p := a.dir.Load().byName["b"]
	eventually(t, "checks end", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.checking })
	// The reconnects above may have overtaken the checks, so one without any.
	p.mu.Lock()
	l := &session.Link{Peer: session.Hello{Instance: p.reached}}
	p.mu.Unlock()
	p.ended(t.Context(), l, &ownEnd{io.EOF})
	eventually(t, "check ends", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.checking })
	a.noEvidence(t, p) // after mere cuts

	start := time.Now()
	px.Close()
	px.cut()
	a.wait(t, "gone", func() bool { return len(a.gone) > 0 && a.gone[0] == ids["b"] })
	t.Logf("gone after %v", time.Since(start))
}

func TestGoneIsOff(t *testing.T) {
	t.Parallel()
	c := config("a")
	c.CrashEvidence = false
	a, b := pair(t, c, config("b"))
	b.Close()
	a.wait(t, "break", func() bool { return len(a.lost) == 1 })
	p := a.dir.Load().byName["b"]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checking || p.again {
		t.Error("crash evidence is looked for")
	}
}

// A dying process whose connections end before its listener is still found gone.
func TestGoneWithListenerClosingLate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if n++; n == 2 {
			ln.Close()
		}
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if n == 1 {
			if in, err := ln.Accept(); err == nil {
				in.Close()
			}
		}
		return c, err
	}
	if !nobodyListens(context.Background(), dial, ln.Addr().String(), time.Second, func() {}) {
		t.Error("not found gone")
	}
}

// What a process has said last is read to its end before the evidence against it is taken again.
func TestGoneAfterLastWords(t *testing.T) {
	t.Parallel()
	p := newPeer(listen(t, config("a")).TCP, peerAt("b", "127.0.0.1:1"))
	ended, last := &session.Link{Peer: session.Hello{Purpose: PurposeControl}}, &session.Link{Peer: session.Hello{Purpose: PurposeBulk}}
	p.live[PurposeControl], p.live[PurposeBulk] = ended, last
	silent := make(chan struct{})
	go func() { p.silent(t.Context()); close(silent) }()
	p.forget(ended)
	select {
	case <-silent:
		t.Error("one connection is left")
	case <-time.After(10 * time.Millisecond):
	}
	p.forget(last)
	select {
	case <-silent:
	case <-time.After(patience):
		t.Error("still waited for")
	}
}

// That the connections of another process end, such as one that was there before, is no evidence either.
func TestGoneNotByAnother(t *testing.T) {
	t.Parallel()
	a, _, px := throughProxy(t)
	p := a.dir.Load().byName["b"]
	px.Close()
	p.ended(t.Context(), &session.Link{Peer: session.Hello{Instance: p.reached + 1}}, &ownEnd{io.EOF})
	a.noEvidence(t, p)
}

// throughProxy returns a node that has reached another one, b, through a proxy.
func throughProxy(t *testing.T) (a, b *node, px *proxy) {
	t.Helper()
	a, b = listen(t, config("a")), listen(t, config("b"))
	px = newProxy(t, b.self.Addr, passed)
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	return a, b, px
}

// noEvidence checks that no evidence against p was seen, and that none is looked for.
func (n *node) noEvidence(t *testing.T, p *peer) {
	t.Helper()
	p.mu.Lock()
	if p.checking || p.again {
		t.Error("evidence is looked for")
	}
	p.mu.Unlock()
	n.group.news.add(notice{what: noticeUnreachable, id: 99}) // comes after all before it
	n.wait(t, "marker", func() bool { return len(n.lost) > 0 && n.lost[len(n.lost)-1] == 99 })
	n.rmu.Lock()
	defer n.rmu.Unlock()
	if len(n.gone) > 0 {
		t.Errorf("gone: %v", n.gone)
	}
}
