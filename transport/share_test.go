package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// One port serves members, clients and the program's own HTTP server, each as if it were alone there, with TLS and without.
func TestShare(t *testing.T) {
	for what, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			c1, c2 := config("a"), config("b")
			if secure {
				c1.TLS, c2.TLS = ca.issue(t, is(RoleMember, "a")), ca.issue(t, is(RoleMember, "b"))
			}
			c2.Share = true
			a, b := pair(t, c1, c2)
			handle(t, b, "echo", echo, everyRole...)

			own := ca.config(t)
			own.NextProtos, own.ClientAuth = []string{"http/1.1"}, tls.NoClientCert
			srv := &http.Server{TLSConfig: own, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s", r.URL, body)
			})}
			served := make(chan error, 1)
			scheme := "http"
			if secure {
				scheme = "https"
				go func() { served <- srv.ServeTLS(b.Others(), "", "") }()
			} else {
				go func() { served <- srv.Serve(b.Others()) }()
			}
			h := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool}}}
			defer h.CloseIdleConnections()
			// Those that say nothing hold up nobody.
			for range 2 * maxHandshakes {
				conn, err := net.Dial("tcp", b.self.Addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			for range 3 {
				resp, err := h.Post(scheme+"://"+b.self.Addr+"/x", "text/plain", nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(body) != "/x " {
					t.Errorf("%s %q", resp.Status, body)
				}
			}
			st, err := a.Open(t.Context(), "b", "echo")
			asks(t, st, err, "from a member")
			m := dialled(t, client(t, func(c *session.ClientConfig) {
				if secure {
					c.TLS = ca.issue(t, is(RoleClient, ""))
				}
			}), b.self.Addr)
			st, err = m.Open(t.Context(), "echo")
			asks(t, st, err, "from a client")
			if n := b.Stats().Shared; n == 0 {
				t.Error("nothing was handed on")
			}
			m.Close()
			b.Close()
			if err := <-served; !errors.Is(err, net.ErrClosed) {
				t.Errorf("the server has ended with %v", err)
			}
			srv.Close()
		})
	}
}

// What is not accepted is closed, and the listener of another is used and closed with the transport.
func TestShare_NobodyAccepts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := config("a")
	c.Self.Addr, c.Listener, c.Share, c.HandshakeTimeout = l.Addr().String(), l, true, 50*time.Millisecond
	n, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Group(1, newRecorder()); err != nil {
		t.Fatal(err)
	}
	ends := func(what, say string) {
		t.Helper()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(say))
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ends("nobody accepts", "GET / HTTP/1.1\r\n\r\n")
	ends("says nothing", "")
	n.Others().Close()
	ends("nobody will", "GET / HTTP/1.1\r\n\r\n")
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := n.Others().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
}
