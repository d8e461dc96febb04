package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// What a certificate says of its holder.
func isDNS(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func isAt(ip string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP(ip)} }
}

func is(role Role, name string) func(*x509.Certificate) { return isURI(RoleURI(role, "jobs", name)) }

func isURI(u ...*url.URL) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.URIs = u }
}

func all(fs ...func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, f := range fs {
			f(c)
		}
	}
}

func leafOf(t testing.TB, c *tls.Config) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestAuthorizeByCertificate(t *testing.T) {
	ca := newAuthority(t)
	list := []Peer{peerAt("a", "db1.example.com:7"), peerAt("b", "db2.example.com:7"), peerAt("c", "10.0.0.3:7"), peerAt("d", "[fe80::1%eth0]:7")}
	mail := RoleURI(RoleMember, "mail", "a")
	for _, c := range []struct {
		what string
		cert func(*x509.Certificate)
		ok   string // what it may be of members a to d, client C, operator O
	}{
		{"nothing in it", isDNS(), "C"},
		{"a's URI", is(RoleMember, "a"), "aC"},
		{"a's URI of another cluster", isURI(mail), "C"},
		{"a's URI of two clusters", isURI(mail, RoleURI(RoleMember, "jobs", "a")), "aC"},
		{"a's and b's URI", isURI(RoleURI(RoleMember, "jobs", "b"), RoleURI(RoleMember, "jobs", "a")), "abC"},
		{"a's URI with more", isURI(&url.URL{Scheme: "baton", Host: "jobs", Path: "/member/a", RawQuery: "x"}), "C"},
		{"a URI of somebody else's", all(isURI(&url.URL{Scheme: "spiffe", Host: "jobs", Path: "/member/a"}), isDNS("b")), "bC"},
		{"a client's URI", is(RoleClient, ""), "C"},
		{"a client's URI on a's host", all(is(RoleClient, ""), isDNS("a", "db1.example.com")), "C"},
		{"an operator's URI", is(RoleOperator, ""), "CO"},
		{"an operator's URI of another cluster", isURI(RoleURI(RoleOperator, "mail", "")), "C"},
		{"an operator's name", isDNS("operator"), "C"},
		{"a's name", isDNS("a"), "aC"},
		{"a's name, and the host of b", isDNS("a", "db2.example.com"), "aC"},
		{"a's name in capitals", isDNS("A"), "C"},
		{"a's and c's name", isDNS("a", "c"), "acC"},
		{"a's host", isDNS("db1.example.com"), "aC"},
		{"a's host in capitals", isDNS("DB1.Example.com"), "aC"},
		{"a wildcard for hosts", isDNS("*.example.com"), "abC"},
		{"a wildcard for everything", isDNS("*"), "C"},
		{"a wildcard one level up", isDNS("*.com"), "C"},
		{"another host", isDNS("db1.example.org"), "C"},
		{"c's address", isAt("10.0.0.3"), "cC"},
		{"d's address", isAt("fe80::1"), "dC"},
		{"another address", isAt("10.0.0.4"), "C"},
		{"a common name", func(c *x509.Certificate) { c.Subject.CommonName = "a" }, "C"},
	} {
		state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leafOf(t, ca.issue(t, c.cert))}}
		may := ""
		for _, p := range list {
			claim := Claim{Role: RoleMember, Cluster: "jobs", Name: p.Name, Host: session.HostOf(p.Addr), Members: list, TLS: state}
			if AuthorizeByCertificate(t.Context(), claim) == nil {
				may += p.Name
			}
		}
		for role, letter := range map[Role]string{RoleClient: "C", RoleOperator: "O"} {
			if AuthorizeByCertificate(t.Context(), Claim{Role: role, Cluster: "jobs", Members: list, TLS: state}) == nil {
				may += letter
			}
		}
		may = strings.Replace(may, "OC", "CO", 1)
		if may != c.ok {
			t.Errorf("%s: may be %q, should be %q", c.what, may, c.ok)
		}
		if AuthorizeByCertificate(t.Context(), Claim{Role: 9, TLS: state}) == nil {
			t.Errorf("%s: may be what there is not", c.what)
		}
	}
	if AuthorizeByCertificate(t.Context(), Claim{Role: RoleMember, Cluster: "jobs", Name: "e", Members: list,
		TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leafOf(t, ca.config(t))}}}) == nil {
		t.Error("a member that is not in the list, by a host")
	}
}

// mustBe says whether a handshake went as it should: both sides agree.
func mustBe(t *testing.T, what string, ok bool, err error) {
	t.Helper()
	if ok != (err == nil) || err != nil && !errors.Is(err, ErrUnauthorized) {
		t.Errorf("%s: %v", what, err)
	}
}

// A holder of a certificate of the authority is let in as what the certificate says, and is told why not. Both sides see to
// it: who listens at a member's address with another's certificate is not talked to.
func TestT17_CertificateSaysWhoMayBeMember(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	expired := &authority{cert: ca.cert, key: ca.key, pool: ca.pool, until: time.Now().Add(-time.Minute)}
	loopback := isAt("127.0.0.1")
	for what, c := range map[string]struct {
		from *authority
		cert func(*x509.Certificate)
		ok   bool
	}{
		"a's URI":                {ca, is(RoleMember, "a"), true},
		"a's name":               {ca, isDNS("a"), true},
		"a's address":            {ca, loopback, true},
		"a client's":             {ca, is(RoleClient, ""), false},
		"a client's, a's host":   {ca, all(is(RoleClient, ""), loopback), false},
		"an operator's":          {ca, is(RoleOperator, ""), false},
		"b's URI, a's host":      {ca, all(is(RoleMember, "c"), loopback), false},
		"b's name, a's host":     {ca, all(isDNS("c"), loopback), false},
		"somebody's":             {ca, isDNS("web.example.com"), false},
		"a's URI, expired":       {expired, is(RoleMember, "a"), false},
		"a's URI, other's":       {other, is(RoleMember, "a"), false},
		"a's URI, for listeners": {ca, all(is(RoleMember, "a"), onlyFor(x509.ExtKeyUsageServerAuth)), false},
	} {
		cb := config("b")
		cb.TLS = ca.issue(t, is(RoleMember, "b"))
		b := listen(t, cb)
		b.start(t, peerAt("a", "127.0.0.1:1"), peerAt("c", "127.0.0.2:1"))
		ca1 := config("a")
		ca1.TLS = c.from.issue(t, c.cert)
		ca1.TLS.RootCAs = ca.pool
		ca1.Peers = []Peer{peerAt("c", "127.0.0.2:1")}
		_, err := Probe(t.Context(), ca1, b.self)
		mustBe(t, what+" dials", c.ok, err)
		var r *RefusedError
		if !c.ok && c.from == ca && what != "a's URI, for listeners" {
			b.wait(t, "told", func() bool { return len(b.refusals) == 1 })
			if !errors.As(b.noes()[0], &r) || !r.Local || r.Code != CodeUnauthorized || r.Peer != "a" {
				t.Errorf("%s: told %v", what, b.noes())
			}
			if !strings.Contains(err.Error(), "certificate") {
				t.Errorf("%s: says %v", what, err)
			}
		}
		if what == "a's URI, for listeners" {
			continue
		}

		// And the other way round: it listens, and says nothing of itself but what the certificate says.
		ca1.Refused = nil
		a := listen(t, ca1)
		a.start(t, b.self)
		_, err = b.Probe(t.Context(), a.self)
		mustBe(t, what+" is dialled", c.ok, err)
		b.Close()
		a.Close()
	}
}

func onlyFor(usage x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} }
}

// What is not for this member to answer as is told nothing, not even a hello.
func TestImpostorLearnsNothing(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: ca.issue(t, is(RoleClient, "")).Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	heard := make(chan session.Kind, 1)
	go func() {
		defer close(heard)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		l := session.NewLink(conn, conn)
		if _, err := l.Opening(); err != nil {
			return
		}
		if f, err := l.Next(session.MaxHello); err == nil {
			heard <- f.Kind
		}
	}()
	cb := config("b")
	cb.TLS = ca.issue(t, is(RoleMember, "b"))
	_, err = Probe(t.Context(), cb, peerAt("a", ln.Addr().String()))
	mustBe(t, "impostor", false, err)
	if k := <-heard; k != session.KindRefuse {
		t.Errorf("it heard a frame of type %d", k)
	}
}

// Members whose addresses are names: their certificates are for the names, a wildcard does, and TLS.ServerName may stand
// for all of them.
func TestCertificatesForHosts(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for what, c := range map[string]struct {
		cert   string
		server string
		ok     bool
	}{
		"host":            {"b.jobs.internal", "", true},
		"wildcard":        {"*.jobs.internal", "", true},
		"other host":      {"a.jobs.internal", "", false},
		"name of all":     {"jobs.internal", "jobs.internal", true},
		"not that of all": {"b.jobs.internal", "jobs.internal", false},
	} {
		cb := config("b")
		cb.TLS = ca.issue(t, isDNS(c.cert))
		b := listen(t, cb)
		_, port, _ := net.SplitHostPort(b.self.Addr)
		b.start(t, peerAt("a", "127.0.0.1:1"))
		conf := config("a")
		conf.TLS = ca.config(t)
		conf.TLS.ServerName = c.server
		e := session.NewEndpoint(conf.SessionConfig)
		e.Names.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		l, err := e.Dial(t.Context(), peerAt("b", "b.jobs.internal:"+port), PurposeProbe)
		if err == nil {
			l.Close()
		}
		mustBe(t, what, c.ok, err)
	}
}

// A member that waits to be added has no peers yet. It takes a certificate for a host from those of whom it was told where they are, and from nobody else.
func TestCertificatesForHostsBeforeThereArePeers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for what, hints := range map[string][]Peer{"told": {peerAt("a", "127.0.0.1:1")}, "told of another host": {peerAt("a", "127.0.0.2:1")}, "not told": nil} {
		cb := config("b")
		cb.TLS, cb.Peers, cb.Hello = ca.config(t), hints, says(Hello{Cluster: "jobs", Joining: true})
		b := listen(t, cb)
		b.start(t)
		conf := config("a")
		conf.TLS = ca.config(t)
		_, err := Probe(t.Context(), conf, Peer{Name: "b", Addr: b.self.Addr})
		mustBe(t, what, what == "told", err)
	}
}

// Config.Authorize decides instead, with and without TLS; one that does not come back with an answer has refused.
func TestOwnAuthorize(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	release := make(chan struct{})
	defer close(release)
	var asked atomic.Pointer[Claim]
	for what, c := range map[string]struct {
		f    func() error
		text string // of the refusal
	}{
		"yes":                {func() error { return nil }, ""},
		"no":                 {func() error { return errors.New("not today") }, "not today"},
		"panics":             {func() error { panic("oh") }, "panicked: oh"},
		"ends its goroutine": {func() error { runtime.Goexit(); return nil }, "ended its goroutine"},
		"does not return":    {func() error { <-release; return nil }, "has not returned"},
		"an error that is asked in the call only": {func() error { return new(jealous) }, "only here"},
		"an error that is a nil pointer":          {func() error { var none *jealous; return none }, "panicked"},
	} {
		for _, secure := range []bool{false, true} {
			cb, conf := config("b"), config("a")
			if secure {
				cb.TLS, conf.TLS = ca.issue(t, is(RoleMember, "b")), ca.issue(t, is(RoleClient, ""))
			}
			cb.Authorize = func(_ context.Context, claim Claim) error {
				asked.Store(&claim)
				return c.f()
			}
			if what == "does not return" {
				cb.HandshakeTimeout = time.Second
			}
			b := listen(t, cb)
			b.start(t, peerAt("a", "127.0.0.9:1"))
			_, err := Probe(t.Context(), conf, b.self)
			if c.text == "" && err != nil || c.text != "" && !mayBeTold(err, c.text) {
				t.Errorf("%s, TLS %v: %v", what, secure, err)
			}
			if c.text != "" {
				b.wait(t, "told", func() bool { return len(b.refusals) > 0 && strings.Contains(b.refusals[0].Error(), c.text) })
			}
			got := asked.Load()
			if got.Role != RoleMember || got.Name != "a" || got.Cluster != "jobs" || got.Host != "127.0.0.9" || got.Dialled || len(got.Members) != 2 || (got.TLS != nil) != secure {
				t.Errorf("%s: asked %+v", what, got)
			}
			if secure && len(got.TLS.VerifiedChains) == 0 {
				t.Errorf("%s: no chains", what)
			}
			b.Close()
		}
	}
}

// A jealous error panics when somebody asks for more than its text, or for that again: its methods are the program's, and may do worse.
type jealous struct{ asked atomic.Bool }

func (e *jealous) Error() string {
	if e.asked.Swap(true) {
		panic("asked again")
	}
	return "only here"
}

func (e *jealous) Is(error) bool { panic("Is was asked") }

func (e *jealous) As(any) bool { panic("As was asked") }

func (e *jealous) Unwrap() error { panic("Unwrap was asked") }

// The same holds for what GetTLS and the callbacks of a configuration return.
func TestErrorsOfTLSAreAskedInTheirCall(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var bad atomic.Bool
	err := func() error {
		if bad.Load() {
			return new(jealous)
		}
		return nil
	}
	cfg := ca.issue(t, is(RoleMember, "b"))
	cfg.VerifyConnection = func(tls.ConnectionState) error { return err() }
	cb := config("b")
	cb.TLS = cfg
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.9:1"))
	conf := config("a")
	conf.TLS = ca.issue(t, is(RoleMember, "a"))
	for _, is := range []bool{true, false} {
		bad.Store(is)
		if _, err := Probe(t.Context(), conf, b.self); (err != nil) != is {
			t.Errorf("probe while the callback fails (%v): %v", is, err)
		}
	}
	b.Close()
	bad.Store(true)
	cb.TLS, cb.GetTLS = nil, func() (*tls.Config, error) { return cfg, err() }
	if _, err := Listen(cb); err == nil || !strings.Contains(err.Error(), "only here") {
		t.Errorf("GetTLS fails at the start: %v", err)
	}
	cb.GetTLS = func() (*tls.Config, error) { panic("at the start") }
	if _, err := Listen(cb); err == nil || !strings.Contains(err.Error(), "at the start") {
		t.Errorf("GetTLS panics at the start: %v", err)
	}
}

// mayBeTold says whether a dialler was refused, in these words, or found the deadline of the handshake over.
func mayBeTold(err error, text string) bool {
	return err != nil && (errors.Is(err, ErrUnauthorized) && strings.Contains(err.Error(), text) || !errors.Is(err, ErrRefused))
}
