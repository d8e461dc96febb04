package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// renewable is what GetTLS returns.
type renewable struct{ now atomic.Pointer[tls.Config] }

func (r *renewable) set(c *tls.Config, roots ...*authority) {
	c.RootCAs = x509.NewCertPool()
	for _, a := range roots {
		c.RootCAs.AddCert(a.cert)
	}
	r.now.Store(c)
}

func (r *renewable) get() (*tls.Config, error) {
	if c := r.now.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("files are being replaced")
}

// One authority takes the place of another without a restart: first all trust both, then all show the new one's certificates,
// and then the old one is trusted no more. New connections are made at each step.
func TestNewAuthorityWithoutARestart(t *testing.T) {
	t.Parallel()
	one, two := newAuthority(t), newAuthority(t)
	var ra, rb renewable
	ra.set(one.config(t), one)
	rb.set(one.config(t), one)
	ca, cb := config("a"), config("b")
	ca.GetTLS, cb.GetTLS = ra.get, rb.get
	a, b := listen(t, ca), listen(t, cb)
	ca.Self, cb.Self = a.self, b.self
	a.start(t, b.self)
	b.start(t, a.self)
	old := one.config(t)
	dials := func(step string) {
		t.Helper()
		for _, n := range []struct {
			from *node
			to   Peer
		}{{a, b.self}, {b, a.self}} {
			if _, err := n.from.Probe(t.Context(), n.to); err != nil {
				t.Errorf("%s: %v", step, err)
			}
		}
	}
	dials("the first authority")
	ra.set(one.config(t), one, two)
	dials("one trusts both")
	rb.set(one.config(t), one, two)
	ra.set(two.config(t), one, two)
	dials("one shows the new one's")
	rb.set(two.config(t), one, two)
	dials("both show the new one's")
	ra.set(two.config(t), two)
	rb.set(two.config(t), two)
	dials("the old one is trusted no more")
	a.connected(t)
	b.connected(t)

	// Who has only a certificate of the old one stays outside, whether it dials or is dialled.
	stranger := config("a")
	stranger.TLS = old
	stranger.TLS.RootCAs.AddCert(two.cert)
	if _, err := Probe(t.Context(), stranger, b.self); err == nil {
		t.Error("the old authority's certificate was accepted")
	}
	// In the middle of a replacement the last configuration is used.
	ra.now.Store(nil)
	dials("no new configuration")
}

func TestGetConfigForClientCannotLetStrangersIn(t *testing.T) {
	t.Parallel()
	one, two := newAuthority(t), newAuthority(t)
	cb := config("b")
	cb.TLS = one.config(t)
	cb.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := two.config(t)
		c.ClientAuth = tls.NoClientCert
		return c, nil
	}
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	good, none := config("a"), config("a")
	good.TLS = two.config(t)
	if _, err := Probe(t.Context(), good, b.self); err != nil {
		t.Errorf("authority of GetConfigForClient: %v", err)
	}
	none.TLS = two.config(t)
	none.TLS.Certificates = nil
	none.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	none.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	if _, err := Probe(t.Context(), none, b.self); err == nil {
		t.Error("a dialler without a certificate was let in")
	}
}

// Certificates that expire are told ahead, the own and a peer's, until they are renewed.
func TestCertificateExpires(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	soon := &authority{cert: ca.cert, key: ca.key, pool: ca.pool, until: time.Now().Add(20 * time.Minute)}
	var ra, rb renewable
	ra.set(ca.config(t), ca)
	rb.set(soon.config(t), ca)
	var pa, pb troubles
	c1, c2 := config("a"), config("b")
	c1.GetTLS, c1.Problem = ra.get, pa.tell
	c2.GetTLS, c2.Problem = rb.get, pb.tell
	a, b := pair(t, c1, c2)
	eventually(t, "told", func() bool {
		return strings.Contains(pa.get("b", "certificate"), "expires at") && strings.Contains(pb.get("", "certificate"), "of this member expires at")
	})
	if got := pa.get("", "certificate") + pb.get("a", "certificate"); got != "" {
		t.Errorf("of the good one: %s", got)
	}
	rb.set(ca.config(t), ca)
	if _, err := a.Probe(t.Context(), b.self); err != nil {
		t.Fatal(err)
	}
	eventually(t, "over", func() bool { return pa.get("b", "certificate")+pb.get("", "certificate") == "" })
}

// A callback that does not come back as it should fails its handshake, and nothing else.
func TestTLSCallbacksThatDoNotReturn(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	for what, f := range map[string]func(){
		"panics":              func() { panic("oh") },
		"ends its goroutine":  runtime.Goexit,
		"blocks for too long": func() { <-release },
	} {
		ca := newAuthority(t)
		c := config("b")
		c.TLS, c.HandshakeTimeout = ca.config(t), 100*time.Millisecond
		c.TLS.VerifyConnection = func(tls.ConnectionState) error { f(); return nil }
		b := listen(t, c)
		b.start(t, peerAt("a", "127.0.0.1:1"))
		good := config("a")
		good.TLS = ca.config(t)
		if _, err := Probe(t.Context(), good, b.self); err == nil {
			t.Errorf("%s: let in", what)
		}
		if err := b.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	close(release)
}
