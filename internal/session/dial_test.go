package session

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
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

func (n *names) dialer() *Dialer {
	d := newDialer(time.Second)
	d.Lookup = func(ctx context.Context, host string) (out []netip.Addr, err error) {
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
	d.Connect = func(ctx context.Context, _, addr string) (net.Conn, error) {
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
		{"silent name server", names{delay: time.Hour}, "deadline", ResolveTimeout, ResolveTimeout},
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

func TestZoneIsNoPartOfTheServersName(t *testing.T) {
	if host := HostOf("[fe80::1%eth0]:7000"); host != "fe80::1" {
		t.Errorf("server name %q", host)
	}
}
