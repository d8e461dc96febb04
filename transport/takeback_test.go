package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// apart says whether no connection between the two stands.
func apart(nodes ...*node) bool {
	for _, n := range nodes {
		for _, s := range n.Status() {
			if s.Control || s.Bulk || s.Inbound > 0 {
				return false
			}
		}
	}
	return true
}

// An authority that is no longer trusted: what stands ends, in both directions, and nothing new is made, until it is trusted again.
func TestAuthorityIsTakenBack(t *testing.T) {
	t.Parallel()
	one, two := newAuthority(t), newAuthority(t)
	var ra, rb renewable
	ra.set(two.issue(t, is(RoleMember, "a")), one, two)
	rb.set(one.issue(t, is(RoleMember, "b")), one, two)
	var pa, pb troubles
	ca, cb := config("a"), config("b")
	ca.GetTLS, cb.GetTLS, ca.Problem, cb.Problem = ra.get, rb.get, pa.tell, pb.tell
	a, b := pair(t, ca, cb)
	rb.set(one.issue(t, is(RoleMember, "b")), one)
	_, err := b.Probe(t.Context(), a.self)
	mustBe(t, "probe", false, err)
	eventually(t, "ended", func() bool { return apart(a, b) })
	eventually(t, "told", func() bool {
		return strings.Contains(pb.get("a", "certificate"), "authority") && strings.Contains(pa.get("b", "certificate"), "does not accept this member's certificate")
	})
	rb.set(one.issue(t, is(RoleMember, "b")), one, two)
	a.connected(t)
	b.connected(t)
	eventually(t, "over", func() bool { return pa.get("b", "certificate")+pb.get("a", "certificate") == "" })
}

// A certificate that says something else after it was renewed does not keep a session that was let in with it before, nor does
// one that Authorize refuses from now on. One that nobody answers for goes on.
func TestAuthorizeTakesBack(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c1, c2 := config("a"), config("b")
	c1.TLS, c2.TLS = ca.issue(t, is(RoleMember, "a")), ca.issue(t, is(RoleMember, "b"))
	var answer atomic.Pointer[func() error]
	c2.Authorize = func(ctx context.Context, c Claim) error {
		if f := answer.Load(); f != nil {
			return (*f)()
		}
		return AuthorizeByCertificate(ctx, c)
	}
	c2.HandshakeTimeout = 300 * time.Millisecond
	var pb troubles
	c2.Problem = pb.tell
	a, b := pair(t, c1, c2)
	stand := func(n int) func() bool { return func() bool { return b.end.Standing() == n } }
	eventually(t, "stand", stand(4))
	release := make(chan struct{})
	hang := func() error { <-release; return nil }
	answer.Store(&hang)
	b.end.JudgeStanding(t.Context())
	close(release)
	if !stand(4)() {
		t.Errorf("%d of 4 go on without an answer", b.end.Standing())
	}
	no := func() error { return errors.New("revoked") }
	answer.Store(&no)
	b.end.JudgeStanding(t.Context())
	eventually(t, "ended", func() bool { return apart(a, b) })
	eventually(t, "told", func() bool { return strings.Contains(pb.get("a", "certificate"), "revoked") })
	if b.Stats().TakenBack == 0 {
		t.Error("not counted")
	}
	answer.Store(nil)
	a.connected(t)
	b.connected(t)
	eventually(t, "over", func() bool { return !strings.Contains(pb.get("a", "certificate"), "revoked") })
	eventually(t, "the set is what stands", func() bool { return stand(4)() && a.end.Standing() == 4 })
}

// Whoever has only not renewed its certificate in time keeps what stands.
func TestExpiredGoesOn(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var r renewable
	r.set(ca.config(t), ca)
	c1, c2 := config("a"), config("b")
	c1.TLS, c2.GetTLS = ca.config(t), r.get
	_, b := pair(t, c1, c2)
	later := ca.config(t)
	later.Time = func() time.Time { return time.Now().Add(24 * time.Hour) }
	r.set(later, ca)
	eventually(t, "stand", func() bool { return b.end.Standing() == 4 })
	b.end.JudgeStanding(t.Context())
	if n := b.end.Standing(); n != 4 {
		t.Errorf("%d of 4 go on", n)
	}
}

// The callbacks of a tls.Config are asked again, too, and the errors that they return in the call only.
func TestCallbacksTakeBack(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for what, change := range map[string]func(*tls.Config){
		"VerifyConnection": func(c *tls.Config) {
			c.VerifyConnection = func(s tls.ConnectionState) error {
				if len(s.VerifiedChains) == 0 {
					t.Error("VerifyConnection: no chains")
				}
				return new(jealous)
			}
		},
		"VerifyPeerCertificate": func(c *tls.Config) {
			c.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
				if len(raw) == 0 || len(chains) == 0 {
					t.Errorf("VerifyPeerCertificate: %d, %d", len(raw), len(chains))
				}
				return new(jealous)
			}
		},
	} {
		var r renewable
		r.set(ca.config(t), ca)
		c1, c2 := config("a"), config("b")
		c1.TLS, c2.GetTLS = ca.config(t), r.get
		a, b := pair(t, c1, c2)
		strict := ca.config(t)
		change(strict)
		r.set(strict, ca)
		if _, err := b.Probe(t.Context(), a.self); err == nil {
			t.Errorf("%s: not asked in a handshake", what)
		}
		eventually(t, what, func() bool { return apart(a, b) })
		a.Close()
		b.Close()
	}
}

// writePEM replaces the file as careful programs do it.
func writePEM(t *testing.T, file, kind string, ders ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key, roots := filepath.Join(dir, "crt"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	one, two := newAuthority(t), newAuthority(t)
	put := func(a *authority) func() {
		c := a.config(t).Certificates[0]
		writePEM(t, cert, "CERTIFICATE", c.Certificate...)
		der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return func() { writePEM(t, key, "PRIVATE KEY", der) }
	}
	put(one)()
	writePEM(t, roots, "CERTIFICATE", one.cert.Raw)
	get := TLSFiles(cert, key, roots)
	first, err := get()
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateTLS(first); err != nil {
		t.Error(err)
	}
	if again, err := get(); again != first || err != nil {
		t.Errorf("read again without need: %v", err)
	}
	rest := put(two)
	if _, err := get(); err == nil {
		t.Error("a certificate with the key of another")
	}
	rest()
	writePEM(t, roots, "CERTIFICATE", one.cert.Raw, two.cert.Raw)
	second, err := get()
	if err != nil {
		t.Fatal(err)
	}
	if err := leafOf(t, second).CheckSignatureFrom(two.cert); err != nil {
		t.Errorf("not the new certificate: %v", err)
	}
	if second.RootCAs.Equal(first.RootCAs) {
		t.Error("not the new authorities")
	}
	writePEM(t, roots, "PRIVATE KEY", []byte{1})
	if _, err := get(); err == nil {
		t.Error("no authorities")
	}
	if err := os.Remove(roots); err != nil {
		t.Fatal(err)
	}
	if _, err := get(); err == nil {
		t.Error("no file")
	}
}
