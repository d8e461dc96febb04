package ha_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/transport"
)

// An authority signs the members' certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = sign(t, template, nil)
	a.pool.AddCert(a.cert)
	return a
}

// sign makes a certificate; without an authority it signs itself.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// member makes the configuration of a member.
func (a *authority) member(t *testing.T, name string) *tls.Config {
	t.Helper()
	return a.holder(t, name)
}

// holder is one with a certificate that has URIs, too.
func (a *authority) holder(t *testing.T, name string, uris ...*url.URL) *tls.Config {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{
		URIs:         uris,
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(loopback.Host())},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, RootCAs: a.pool}
}

// T17: with mutual TLS the cluster works, and nobody without its certificate gets a byte in.
func TestT17_MutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	confs := map[string]*tls.Config{}
	for _, name := range []string{"a", "b", "c"} {
		confs[name] = ours.member(t, name)
	}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		steady(cfg)
		cfg.TLS = confs[cfg.Name]
		if cfg.Name != "c" {
			cfg.FormWithout = []string{"c"}
		}
	})
	good := confs["c"]
	c.start("a", "b")
	c.put(number(1))

	// Strangers at the door.
	_, token := c.active()
	addr := c.members[0].Addr
	for name, conf := range map[string]*tls.Config{
		"no certificate":    {RootCAs: ours.pool},
		"other authority's": {RootCAs: ours.pool, Certificates: theirs.member(t, "c").Certificates},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conf.ServerName = "127.0.0.1"
		s := tls.Client(conn, conf)
		conn.SetDeadline(time.Now().Add(patience))
		// In TLS 1.3 the client learns it when it reads.
		if _, err = io.ReadFull(s, make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: the answer is %v", name, err)
		}
		conn.Close()
	}
	plain, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	plain.SetDeadline(time.Now().Add(patience))
	plain.Write([]byte("\xBAbaton\x00\x01"))
	if answer, _ := io.ReadAll(plain); len(answer) > 0 && answer[0] != 21 { // 21: a TLS alert
		t.Errorf("plain text: the answer is %q", answer)
	}
	plain.Close()

	// Members of ours, but with the wrong papers, next to a working majority. Nothing happens to them
	// while as many records are appended as there is time for their dials.
	confs["c"] = ours.holder(t, "c", ha.RoleURI(ha.RoleClient, "test", ""))
	if _, err := ha.Open(c.config("c")); !errors.Is(err, transport.ErrUnauthorized) {
		t.Errorf("a new member with a client's certificate: %v", err)
	}
	for _, stranger := range []struct {
		name string
		conf *tls.Config
	}{
		{"plain", nil}, // it leaves a directory: so the others are no new members, which would not be opened
		{"other authority", theirs.member(t, "c")},
		{"a client's", confs["c"]},
		{"an operator's", ours.holder(t, "c", ha.RoleURI(ha.RoleOperator, "test", ""))},
		{"another member's", ours.holder(t, "c", ha.RoleURI(ha.RoleMember, "test", "b"))},
		{"another cluster's", ours.holder(t, "c", ha.RoleURI(ha.RoleMember, "other", "c"))},
	} {
		name, conf := stranger.name, stranger.conf
		confs["c"] = conf
		c.start("c")
		stranger := c.nodes["c"]
		for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
			c.put(number(0))
		}
		if conf != nil {
			eventually(t, "the problem of "+name, func() bool {
				return slices.ContainsFunc(stranger.Status().Problems, func(p ha.Problem) bool { return p.Kind == "certificate" && p.Peer == "a" })
			})
		}
		if s := stranger.Status(); s.Index != 0 || s.Epoch != 0 || s.Leader != "" || s.State != ha.Electing {
			t.Errorf("%s: %+v", name, s)
		}
		c.stop("c")
	}
	if _, now := c.active(); now.Epoch > token.Epoch+3 {
		t.Errorf("the stranger has caused elections: from %v to %v", token, now)
	}
	last := c.put(number(1))
	confs["c"] = good
	c.start("c")
	c.awaitSum(2, int(last))
	c.closeAll()
}
