package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// The handshake tells whether it is the member that answers. Its name leads to another one's address, too, and that comes first.
func TestNameThatLeadsToAnotherMemberFirst(t *testing.T) {
	t.Parallel()
	c := listen(t, config("c"))
	c.start(t, peerAt("a", "127.0.0.1:1"))
	cb := config("b")
	_, port, _ := net.SplitHostPort(c.self.Addr)
	cb.Bind = "127.0.0.2:" + port
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	e := session.NewEndpoint(config("a").SessionConfig)
	e.Names.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}, nil
	}
	to := peerAt("b", "b.test:"+port)
	if _, err := e.Dial(t.Context(), to, PurposeProbe); !errors.Is(err, ErrWrongMember) {
		t.Errorf("first: %v", err)
	}
	l, err := e.Dial(t.Context(), to, PurposeProbe)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// withNames makes a member resolve names by a table, which may change.
func withNames(n *node, table func(host string) []string) {
	n.end.Names.Lookup = func(_ context.Context, host string) (out []netip.Addr, err error) {
		for _, a := range table(host) {
			out = append(out, netip.MustParseAddr(a))
		}
		if len(out) == 0 {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return out, nil
	}
}

// troubles collects problems.
type troubles struct {
	mu  sync.Mutex
	now map[string]string // by peer and kind
}

func (p *troubles) tell(peer, kind string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = map[string]string{}
	}
	delete(p.now, peer+" "+kind)
	if err != nil {
		p.now[peer+" "+kind] = err.Error()
	}
}

func (p *troubles) get(peer, kind string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[peer+" "+kind]
}

func TestOwnNameThatDoesNotResolveYet(t *testing.T) {
	t.Parallel()
	var problems troubles
	c := config("a")
	c.Self.Addr, c.Bind, c.Problem = "no-such-name.invalid:7", "no-such-name.invalid:0", problems.tell
	start := time.Now()
	a := &node{recorder: newRecorder()}
	var err error
	if a.TCP, err = Listen(c); err != nil || time.Since(start) > patience/2 {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
	t.Cleanup(func() { a.Close() })
	var mu sync.Mutex
	var now []string
	withNames(a, func(string) []string { mu.Lock(); defer mu.Unlock(); return now })
	b := listen(t, config("b"))
	a.self = peerAt("a", "127.0.0.1:1")
	a.start(t, b.self)
	b.start(t, a.self)
	eventually(t, "problem", func() bool { return strings.Contains(problems.get("", "address"), "no such host") })
	if s := a.Status()[0]; a.Addr() != nil || s.Control || s.Bulk {
		t.Errorf("it dials, and cannot be dialled: %v %+v", a.Addr(), s)
	}
	mu.Lock()
	now = []string{"192.0.2.1"} // somebody else's
	mu.Unlock()
	eventually(t, "other problem", func() bool { return strings.Contains(problems.get("", "address"), "192.0.2.1") })
	mu.Lock()
	now = []string{"127.0.0.1"}
	mu.Unlock()
	eventually(t, "listening", func() bool { return a.Addr() != nil })
	eventually(t, "problem is over", func() bool { return problems.get("", "address") == "" })
	if err := b.SetPeers([]Peer{peerAt("a", a.Addr().String())}); err != nil {
		t.Fatal(err)
	}
	a.connected(t)
	b.connected(t)
}

func TestListensOnAllAddressesOfItsName(t *testing.T) {
	t.Parallel()
	e := session.NewEndpoint(config("a").SessionConfig)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	e.Names.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	addr := net.JoinHostPort("x.test", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):])
	if all, err := bind(t.Context(), e, addr); err == nil || errors.Is(err, errNotYet) || len(all) > 0 {
		t.Errorf("one of the addresses is taken: %v, %v", all, err)
	}
	ln.Close()
	all, err := bind(t.Context(), e, addr)
	if err != nil || len(all) != 2 {
		t.Errorf("listens on %v, %v", all, err)
	}
	closeAll(all)
}

func TestListensOnLoopbackAndOthersAreElsewhere(t *testing.T) {
	t.Parallel()
	var problems troubles
	c := config("a")
	c.Self.Addr, c.Bind, c.Problem = "localhost:7", "localhost:0", problems.tell
	a := listen(t, c)
	a.start(t, peerAt("b", "b.invalid:7"))
	eventually(t, "problem", func() bool { return strings.Contains(problems.get("", "address"), "loopback") })
	b := listen(t, config("b"))
	b.start(t, peerAt("a", a.Addr().String()))
	b.connected(t)
	eventually(t, "problem is over", func() bool { return problems.get("", "address") == "" })
}
