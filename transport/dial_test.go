package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// names is a name server and a network on virtual time.
type names struct {
	addrs map[string][]string
	delay time.Duration
	live  map[string]bool // takes connections at once; the others never answer, or refuse
	no    map[string]bool // refuses
}

func (n *names) dialer() *dialer {
	d := newDialer(time.Second)
	d.lookup = func(ctx context.Context, host string) (out []netip.Addr, err error) {
		select {
		case <-time.After(n.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		for _, a := range n.addrs[host] {
			out = append(out, netip.MustParseAddr(a))
		}
		if len(out) == 0 {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return out, nil
	}
	d.connect = func(ctx context.Context, _, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		switch {
		case n.live[host]:
			a, _ := net.Pipe()
			return at{a, addr}, nil
		case n.no[host]:
			return nil, errors.New("refused by " + host)
		}
		<-ctx.Done()
		return nil, errors.New("timeout of " + host)
	}
	return d
}

type at struct {
	net.Conn
	addr string
}

func (a at) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.addr)) }

func TestNameWithDeadAndLiveAddresses(t *testing.T) {
	for _, c := range []struct {
		what    string
		n       names
		want    string        // address, or part of the error
		within  time.Duration // virtual
		atLeast time.Duration
	}{
		{"dead and live", names{addrs: map[string][]string{"x": {"10.0.0.1", "10.0.0.2"}}, live: map[string]bool{"10.0.0.2": true}}, "10.0.0.2", dialStagger, dialStagger},
		{"three dead ones", names{addrs: map[string][]string{"x": {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}}, live: map[string]bool{"10.0.0.4": true}}, "10.0.0.4", 3 * dialStagger, 3 * dialStagger},
		{"refused ones are not waited for", names{addrs: map[string][]string{"x": {"10.0.0.1", "10.0.0.2", "10.0.0.3"}}, no: map[string]bool{"10.0.0.1": true, "10.0.0.2": true}, live: map[string]bool{"10.0.0.3": true}}, "10.0.0.3", 0, 0},
		{"families take turns", names{addrs: map[string][]string{"x": {"fd00::1", "fd00::2", "fd00::3", "10.0.0.4"}}, live: map[string]bool{"10.0.0.4": true}}, "10.0.0.4", dialStagger, dialStagger},
		{"slow name server", names{addrs: map[string][]string{"x": {"10.0.0.1"}}, delay: 5 * time.Second, live: map[string]bool{"10.0.0.1": true}}, "10.0.0.1", 5 * time.Second, 5 * time.Second},
		{"all dead", names{addrs: map[string][]string{"x": {"10.0.0.1", "10.0.0.2"}}}, "timeout of 10.0.0.1; timeout of 10.0.0.2", time.Second + dialStagger, time.Second},
		{"loopback only", names{addrs: map[string][]string{"x": {"127.0.1.1"}}, no: map[string]bool{"127.0.1.1": true}}, "leads to loopback only, 127.0.1.1", 0, 0},
		{"no such name", names{}, "no such host", 0, 0},
		{"silent name server", names{delay: time.Hour}, "deadline", resolveTimeout, resolveTimeout},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				conn, err := c.n.dialer().dial(t.Context(), "tcp", "x:7")
				got := ""
				if err != nil {
					got = err.Error()
				} else {
					got = conn.RemoteAddr().String()
				}
				if !strings.Contains(got, c.want) {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if d := time.Since(start); d > c.within || d < c.atLeast {
					t.Errorf("took %v, want %v to %v", d, c.atLeast, c.within)
				}
			})
		})
	}
}

// A name server that stopped answering costs a moment, not the connection.
func TestNameServerIsGoneLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := names{addrs: map[string][]string{"x": {"10.0.0.1"}}, live: map[string]bool{"10.0.0.1": true}}
		d := n.dialer()
		if _, err := d.dial(t.Context(), "tcp", "x:7"); err != nil {
			t.Fatal(err)
		}
		n.delay = time.Hour
		start := time.Now()
		if _, err := d.dial(t.Context(), "tcp", "x:7"); err != nil || time.Since(start) > resolvePatience {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		n.delay, n.addrs = 0, nil
		if _, err := d.dial(t.Context(), "tcp", "x:7"); err != nil {
			t.Errorf("a name that is gone: %v", err)
		}
	})
}

// Somebody else may answer at an old address. The next dial begins with another one, and does not trust what it remembers.
func TestAddressWhereSomebodyElseAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := names{addrs: map[string][]string{"x": {"10.0.0.1", "10.0.0.2"}}, live: map[string]bool{"10.0.0.1": true, "10.0.0.2": true}}
		d := n.dialer()
		var got []string
		for range 3 {
			conn, err := d.dial(t.Context(), "tcp", "x:7")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, conn.RemoteAddr().String())
			if conn.RemoteAddr().String() == "10.0.0.1:7" {
				d.blame("x:7", conn)
			} else {
				d.praise("x:7", conn)
			}
		}
		if strings.Join(got, " ") != "10.0.0.1:7 10.0.0.2:7 10.0.0.2:7" {
			t.Errorf("dialled %v", got)
		}
		conn, _ := d.dial(t.Context(), "tcp", "x:7")
		d.blame("x:7", conn)
		n.addrs, n.delay = map[string][]string{"x": {"10.0.0.3"}}, 2*time.Second
		n.live["10.0.0.3"] = true
		if conn, err := d.dial(t.Context(), "tcp", "x:7"); err != nil || conn.RemoteAddr().String() != "10.0.0.3:7" {
			t.Errorf("the new address is not waited for: %v, %v", conn, err)
		}
	})
}

// The handshake tells whether it is the member that answers. Its name leads to another one's address, too, and that comes first.
func TestNameThatLeadsToAnotherMemberFirst(t *testing.T) {
	leaks(t)
	c := listen(t, config("c"))
	c.start(t, peerAt("a", "127.0.0.1:1"))
	cb := config("b")
	_, port, _ := net.SplitHostPort(c.self.Addr)
	cb.Bind = "127.0.0.2:" + port
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	e := newEndpoint(config("a"))
	e.names.lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}, nil
	}
	to := peerAt("b", "b.test:"+port)
	if _, err := e.dial(t.Context(), to, PurposeProbe); !errors.Is(err, ErrWrongMember) {
		t.Errorf("first: %v", err)
	}
	l, err := e.dial(t.Context(), to, PurposeProbe)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// withNames makes a member resolve names by a table, which may change.
func withNames(n *node, table func(host string) []string) {
	n.names.lookup = func(_ context.Context, host string) (out []netip.Addr, err error) {
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
	leaks(t)
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
	leaks(t)
	e := newEndpoint(config("a"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	e.names.lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	e.cfg.Bind = net.JoinHostPort("x.test", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):])
	if all, err := e.bind(t.Context()); err == nil || errors.Is(err, errNotYet) || len(all) > 0 {
		t.Errorf("one of the addresses is taken: %v, %v", all, err)
	}
	ln.Close()
	all, err := e.bind(t.Context())
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

func TestZoneIsNoPartOfTheServersName(t *testing.T) {
	ca := newAuthority(t)
	if c := new(security).client(ca.config(t), "[fe80::1%eth0]:7000", nil); c.ServerName != "fe80::1" {
		t.Errorf("server name %q", c.ServerName)
	}
}
