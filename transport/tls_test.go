package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// authority issues certificates for 127.0.0.1.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	pool  *x509.CertPool
	until time.Time // of what it issues; zero: for an hour
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// config is that of a holder of a certificate for 127.0.0.1.
func (a *authority) config(t testing.TB) *tls.Config {
	t.Helper()
	return a.issue(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
}

// issue makes a certificate that has what change gives it, and nothing else that says what its holder is.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	until := a.until
	if until.IsZero() {
		until = time.Now().Add(time.Hour)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "holder"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool}
}

func TestTLSDelivery(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c1, c2 := config("a"), config("b")
	c1.TLS, c2.TLS = ca.config(t), ca.config(t)
	a, b := pair(t, c1, c2)
	a.source = make([]byte, 1<<20)
	a.send(app("a", "b", 1, make([]byte, 3<<20)), msg(raftpb.MsgSnap, "a", "b", 1))
	b.wait(t, "message and snapshot", func() bool { return len(b.got) == 2 && len(b.bodies) == 1 })
	a.wait(t, "acknowledgement", func() bool { return len(a.sent) == 1 && a.sent[0] == nil })
	if _, err := Probe(t.Context(), c1, b.self); err != nil {
		t.Errorf("probe: %v", err)
	}
	b.Close()
	a.wait(t, "gone over TLS", func() bool { return len(a.gone) > 0 })
}

func TestT17_TLSLetsNobodyElseIn(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	c := config("b")
	c.TLS, c.HandshakeTimeout = ca.config(t), patience
	hellos := make(chan struct{}, 100)
	c.Hello = func() Hello { hellos <- struct{}{}; return Hello{Cluster: "jobs"} }
	b := listen(t, c)
	b.start(t, peerAt("a", "127.0.0.1:1"))

	good := config("a")
	good.TLS = ca.config(t)
	foreign := config("a")
	foreign.TLS = stranger.config(t)
	foreign.TLS.RootCAs = ca.pool // trusts b, but is not trusted
	none := &tls.Config{RootCAs: ca.pool, ServerName: "127.0.0.1"}

	if _, err := Probe(t.Context(), foreign, b.self); err == nil || !strings.Contains(err.Error(), "tls") {
		t.Errorf("certificate of another authority: %v", err)
	}
	if _, err := Probe(t.Context(), config("a"), b.self); err == nil {
		t.Error("plain dialler got in")
	}
	// A plain dialler gets an alert, record type 21, at most.
	if got := hear(t, b.self.Addr, session.AppendOpening(nil)); len(got) > 7 || len(got) > 0 && got[0] != 21 {
		t.Errorf("plain dialler was told %x", got)
	}
	for what, cfg := range map[string]*tls.Config{
		"no certificate": none,
		"TLS 1.2":        {RootCAs: ca.pool, ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12, Certificates: good.TLS.Certificates},
	} {
		conn, err := tls.Dial("tcp", b.self.Addr, cfg)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = conn.Write(session.AppendOpening(nil))
			var n int
			if n, err = conn.Read(make([]byte, 10)); n > 0 {
				t.Errorf("%s: got %d bytes", what, n)
			}
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "tls") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(hellos) != 0 {
		t.Error("somebody without a certificate came as far as the hello")
	}

	// And a TLS dialler does not talk to a listener of another authority, nor to a plain one.
	cs := config("b")
	cs.TLS = stranger.config(t)
	impostor, plain := listen(t, cs), listen(t, config("b"))
	impostor.start(t)
	plain.start(t)
	for what, n := range map[string]*node{"impostor": impostor, "plain": plain} {
		if _, err := Probe(t.Context(), good, n.self); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Probe(t.Context(), good, b.self); err != nil {
		t.Errorf("member: %v", err)
	}
}

func TestTLSConfigFaults(t *testing.T) {
	c := config("a")
	c.TLS = &tls.Config{InsecureSkipVerify: true}
	c.GetTLS = func() (*tls.Config, error) { return nil, nil }
	_, err := Listen(c)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"certificate", "RootCAs", "InsecureSkipVerify", "both"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %s: %v", want, err)
		}
	}
}
