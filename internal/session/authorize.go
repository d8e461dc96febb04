package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Role is what a session may do. The numbers are on the wire and never reused.
type Role byte

// The roles. Each is a claim that [Config.Authorize] allows or refuses.
const (
	RoleMember   Role = 1 // takes part: votes, entries, snapshots
	RoleClient   Role = 2 // reads and calls
	RoleOperator Role = 3 // changes the cluster
)

// member says whether it is that of a member, also of one that says nothing.
func (r Role) member() bool { return r == 0 || r == RoleMember }

func (r Role) String() string {
	switch r {
	case RoleMember:
		return "member"
	case RoleClient:
		return "client"
	case RoleOperator:
		return "operator"
	}
	return fmt.Sprintf("role(%d)", byte(r))
}

// Claim is what the other side of a session wants to be, and what it has shown for it.
type Claim struct {
	Role    Role
	Cluster string // ours
	Name    string // of a member: who it says it is, or who was dialled; of others: what they say, which proves nothing
	// Host is what a member's certificate may be for instead of its name: the host of its address in the list of the
	// members, or TLS.ServerName if that is set. Empty: the name is not in the list.
	Host    string
	Members []Peer   // the list of the members, this one included
	Dialled bool     // we have dialled it; false: it has dialled us
	Remote  net.Addr // of the connection

	// TLS is the connection's state, whose VerifiedChains end at an authority of ours. Nil: without TLS, where nothing is
	// known of the other side but what it says.
	TLS *tls.ConnectionState
}

// RoleURI returns the URI by which a certificate (as a subject alternative name) says what its holder may be:
// baton://CLUSTER/member/NAME, baton://CLUSTER/client or baton://CLUSTER/operator. The name is a member's.
func RoleURI(role Role, cluster, name string) *url.URL {
	u := &url.URL{Scheme: "baton", Host: cluster, Path: "/" + role.String()}
	if role == RoleMember {
		u.Path += "/" + name
	}
	return u
}

// AuthorizeByCertificate is what decides where [Config.Authorize] is nil. It asks the first certificate that was shown:
//
//   - An operator's has the URI of that role.
//   - A client's may be any: every authority that is trusted says that its holders may read and call.
//   - A member's has the member's URI. Where it has no URI of ours at all, it has the member's name as a DNS name, written
//     alike. Where it has no member's name either, it is valid for the host of the member's address, by a wildcard too.
//
// So a certificate that says more says it for good: one with a client's URI is no member's, whatever host it is for, and one
// with a's name is not b's, on the same host either. Without TLS everybody may be everything.
func AuthorizeByCertificate(_ context.Context, c Claim) error {
	if c.TLS == nil {
		return nil
	}
	if len(c.TLS.PeerCertificates) == 0 {
		return errors.New("it has shown no certificate")
	}
	leaf := c.TLS.PeerCertificates[0]
	switch c.Role {
	case RoleClient:
		return nil
	case RoleOperator:
		if want := RoleURI(RoleOperator, c.Cluster, "").String(); !slices.Contains(marksOf(leaf), want) {
			return fmt.Errorf("certificate %s has no URI %s", certName(leaf), want)
		}
		return nil
	case RoleMember:
		return c.mayBeMember(leaf)
	}
	return fmt.Errorf("there is no %v", c.Role)
}

func (c Claim) mayBeMember(leaf *x509.Certificate) error {
	want := RoleURI(RoleMember, c.Cluster, c.Name).String()
	if marks := marksOf(leaf); len(marks) > 0 {
		if !slices.Contains(marks, want) {
			return fmt.Errorf("certificate %s is for %s, and not for %s", certName(leaf), strings.Join(marks, " and "), want)
		}
		return nil
	}
	if slices.Contains(leaf.DNSNames, c.Name) {
		return nil
	}
	for _, m := range c.Members {
		if slices.Contains(leaf.DNSNames, m.Name) {
			return fmt.Errorf("certificate %s is that of member %q, and not of %q", certName(leaf), m.Name, c.Name)
		}
	}
	if c.Host != "" && leaf.VerifyHostname(c.Host) == nil {
		return nil
	}
	host := fmt.Sprintf("not valid for its host %q", c.Host)
	if c.Host == "" {
		host = "the list of the members has no such name and no host for it"
	}
	return fmt.Errorf("certificate %s is not that of member %q: it has neither the URI %s nor the DNS name %q, and it is %s", certName(leaf), c.Name, want, c.Name, host)
}

// marksOf returns the URIs of ours in a certificate.
func marksOf(leaf *x509.Certificate) (marks []string) {
	for _, u := range leaf.URIs {
		if u.Scheme == "baton" {
			marks = append(marks, u.String())
		}
	}
	return marks
}

// HostOf returns what a certificate that is for a host has to be valid for. A zone is the dialler's own business.
func HostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	host, _, _ = strings.Cut(host, "%")
	return strings.TrimSuffix(host, ".")
}

// claim is the claim of the other side of l. addr is a member's in the list, empty if there is none.
func (e *Endpoint) claim(l *Link, role Role, cluster, name, addr string, dialled bool) Claim {
	c := Claim{Role: role, Cluster: cluster, Name: name, Host: HostOf(addr), Members: e.Members(), Dialled: dialled, Remote: l.Raw.RemoteAddr()}
	if l.shown != nil {
		c.TLS = &l.shown.state
		if server := l.shown.given.ServerName; server != "" && addr != "" {
			c.Host = server
		}
	}
	return c
}

// authorize decides whether the other side may be what it claims. It runs on a goroutine of the connection, and takes no
// longer than a handshake.
func (e *Endpoint) authorize(ctx context.Context, c Claim) *RefusedError {
	err := e.mayBe(ctx, c)
	if err == nil {
		return nil
	}
	return &RefusedError{Peer: c.Name, Role: c.Role, Code: CodeUnauthorized, Local: true,
		Text: fmt.Sprintf("%q does not take the other side for %s: %s", e.cfg.Self.Name, c.what(), StableText(err))}
}

// mayBe is the one place where it is decided who may be what.
func (e *Endpoint) mayBe(ctx context.Context, c Claim) error {
	if e.cfg.Authorize == nil {
		return AuthorizeByCertificate(ctx, c)
	}
	_, err := outside(ctx, &e.outside, outsider(c), "Authorize", e.cfg.HandshakeTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, inWords(e.cfg.Authorize(ctx, c))
	})
	return err
}

// who is whom lines are about: of clients there may be any number, with any names.
func (c Claim) who() string {
	if c.Role == RoleMember {
		return c.Name
	}
	return c.Role.String()
}

func (c Claim) what() string {
	switch c.Role {
	case RoleMember:
		return fmt.Sprintf("member %q", c.Name)
	case RoleOperator:
		return "an operator"
	}
	return "a " + c.Role.String()
}
