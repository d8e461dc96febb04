package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/internal/session"
)

// lines is a log that is kept.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

func (l *lines) with(text string) (out []string) {
	for _, line := range l.all() {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

// The text names what is at the other end, on both sides.
func TestCausesInWords(t *testing.T) {
	ca, stranger, old := newAuthority(t), newAuthority(t), newAuthority(t)
	old.until = time.Now().Add(-time.Minute)
	old.cert, old.key, old.pool = ca.cert, ca.key, ca.pool
	for _, c := range []struct {
		what             string
		dialler, listens func(*Config)
		dial, listen     string // what is said by each; nothing where the end is all that it sees
	}{
		{"plain to TLS", nil, func(c *Config) { c.TLS = ca.config(t) }, "Config.TLS must be set on both", "it has no TLS, and this member has"},
		{"TLS to plain", func(c *Config) { c.TLS = ca.config(t) }, nil, "may have no TLS", "speaks TLS, and this member has none"},
		{"authorities", func(c *Config) { c.TLS = ca.config(t) }, func(c *Config) { c.TLS = stranger.config(t) }, "authority", "certificate"},
		{"expired", func(c *Config) { c.TLS = old.config(t) }, func(c *Config) { c.TLS = ca.config(t) }, "expired", "valid from"},
		{"expired listener", func(c *Config) { c.TLS = ca.config(t) }, func(c *Config) { c.TLS = old.config(t) }, "valid from", "does not accept this member"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			var mine, theirs lines
			ca, cb := config("a"), config("b")
			ca.Logger, cb.Logger = mine.logger(), theirs.logger()
			if c.dialler != nil {
				c.dialler(&ca)
			}
			if c.listens != nil {
				c.listens(&cb)
			}
			a, b := listen(t, ca), listen(t, cb)
			b.start(t)
			a.start(t, b.self)
			eventually(t, "both say it", func() bool {
				return len(mine.with(c.dial)) > 0 && len(theirs.with(c.listen)) > 0
			})
			time.Sleep(100 * time.Millisecond) // what is tested is that time passes
			for side, l := range map[string]*lines{"dialler": &mine, "listener": &theirs} {
				if n := len(l.with("level=WARN")); n > 3 {
					t.Errorf("%s: %d lines: %q", side, n, l.all())
				}
			}
		})
	}
}

func TestStrangersAreCounted(t *testing.T) {
	t.Parallel()
	var l lines
	c := config("b")
	c.Logger = l.logger()
	b := listen(t, c)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	for i := range 50 {
		hear(t, b.self.Addr, []byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
		hear(t, b.self.Addr, []byte(fmt.Sprintf("%d: something", i)))
		// And names that somebody makes up.
		made := config("a")
		made.Self.Name = fmt.Sprint("made-up-", i)
		e := session.NewEndpoint(made.SessionConfig)
		if _, err := e.Dial(t.Context(), b.self, PurposeBulk); err == nil {
			t.Fatal("admitted")
		}
	}
	eventually(t, "all are through", func() bool { b.lobby.mu.Lock(); defer b.lobby.mu.Unlock(); return len(b.lobby.waiting) == 0 })
	if n := len(l.with("speaks HTTP")); n != 1 {
		t.Errorf("%d lines about HTTP", n)
	}
	if n := len(l.all()); n > 3+3*3 {
		t.Errorf("%d lines: %q", n, l.all())
	}
	if n := b.said.Held(); n > 5 {
		t.Errorf("strangers made %d conditions", n)
	}
}

// A listener without descriptors says so once, and goes on when there are some again.
func TestAcceptFailsForAWhile(t *testing.T) {
	t.Parallel()
	var l lines
	c := config("b")
	c.Logger = l.logger()
	b := listen(t, c)
	bad := &failing{Listener: b.listeners[0]}
	bad.left.Store(8)
	b.listeners[0] = bad
	b.start(t, peerAt("a", "127.0.0.1:1"))
	if _, err := Probe(t.Context(), config("a"), b.self); err != nil {
		t.Error(err)
	}
	if n := len(l.with("cannot accept")); n != 1 || len(l.with("accepting again")) != 1 {
		t.Errorf("said: %q", l.all())
	}
}

// A listener that the program closes is said to be closed, and that of a transport which is closed is not.
func TestListenerClosedByTheProgram(t *testing.T) {
	t.Parallel()
	for _, byProgram := range []bool{true, false} {
		var said troubles
		c := config("b")
		c.Problem = said.tell
		b := listen(t, c)
		b.start(t, peerAt("a", "127.0.0.1:1"))
		if byProgram {
			b.listeners[0].Close()
			eventually(t, "it is said", func() bool { return strings.Contains(said.get("", problemAddress), "was closed") })
		}
		b.Close()
		if text := said.get("", problemAddress); !byProgram && text != "" {
			t.Errorf("a transport that is closed says %q", text)
		}
	}
}

// failing is a listener whose first accepts fail.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

// A peer that cannot be reached is one line, whatever is tried on however many connections, and one when it is back.
func TestOneLineForAPeer(t *testing.T) {
	t.Parallel()
	var l lines
	c := config("a")
	c.Logger = l.logger()
	a, b := listen(t, c), listen(t, config("b"))
	var there atomic.Bool
	door := newFilter(t, b.self.Addr, func(_ int, _ int64, p []byte) []byte {
		if !there.Load() {
			return []byte("nobody is there, and b ends the connection")
		}
		return p
	})
	a.start(t, peerAt("b", door.Addr().String()))
	b.start(t, a.self)
	eventually(t, "it is said", func() bool { return len(l.with("cannot connect")) > 0 })
	there.Store(true)
	a.connected(t)
	eventually(t, "it is over", func() bool { return len(l.with("msg=connected")) > 0 })
	if n := len(l.all()); n != 2 {
		t.Errorf("%d lines: %q", n, l.all())
	}
}

// What the program is told, or says itself, the log has no second line of: a certificate that is not accepted, at whichever side, and whom it waits for.
func TestSaidElsewhere(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		for _, known := range []bool{true, false} { // the authority
			t.Run(fmt.Sprintf("told=%v/known=%v", told, known), func(t *testing.T) { t.Parallel(); testSaidElsewhere(t, told, known) })
		}
	}
}

func testSaidElsewhere(t *testing.T, told, known bool) {
	var l lines
	var awaited atomic.Bool
	awaited.Store(true)
	problems := make(chan error, 100)
	ca, cb := config("a"), config("b")
	one, other := newAuthority(t), newAuthority(t)
	if known {
		other = one
		ca.Authorize = func(context.Context, Claim) error { return errors.New("not this one") }
	}
	ca.TLS, cb.TLS = one.config(t), other.config(t)
	ca.Logger, ca.Awaited = l.logger(), awaited.Load
	if told {
		ca.Problem = func(peer, kind string, err error) {
			if peer == "b" && kind == problemCertificate {
				problems <- err
			}
		}
	}
	a, b := listen(t, ca), listen(t, cb)
	a.start(t, b.self, peerAt("c", loopback.Addr(t)))
	b.start(t, a.self)
	if told {
		select {
		case err := <-problems:
			if !errors.Is(err, ErrUnauthorized) {
				t.Errorf("the program is told: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the program is not told")
		}
	}
	ofB := []string{`"cannot connect" member=a peer=b`}
	if known { // else nobody knows who comes
		ofB = append(ofB, lineRefused)
		eventually(t, "a refuses b, which comes", func() bool { return a.Stats().Refused > 0 })
	}
	if got := l.with(lineCannotConnect); len(got) > 0 {
		t.Errorf("a says whom it awaits: %q", got)
	}
	awaited.Store(false)
	eventually(t, "c is said to be away", func() bool { return len(l.with(`"cannot connect" member=a peer=c`)) > 0 })
	for _, line := range ofB {
		if told {
			if got := l.with(line); len(got) > 0 {
				t.Errorf("of b the program is told, and the log has %q", got)
			}
		} else {
			eventually(t, "the log has "+line, func() bool { return len(l.with(line)) > 0 })
		}
	}
}
