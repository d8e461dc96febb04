package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"
)

const maxName = 255

// Peer is one member of the cluster.
type Peer struct {
	ID   uint64 `codec:"i"` // raft id; not 0 and not one of raft's two highest, reserved ids. 0 in a probe: whatever it is
	Name string `codec:"n"` // 1 to 255 bytes
	Addr string `codec:"a"` // host:port, resolved at every dial, never before; all addresses are tried
}

// Config is what a member needs to shake hands. It is copied; what it points to must not change afterwards.
type Config struct {
	// Self is this member. Required.
	Self Peer

	// Peers are the other members; an entry equal to Self is skipped.
	Peers []Peer

	// TLS, if not nil, makes all connections mutual TLS 1.3 or newer. It needs a certificate and RootCAs; ClientCAs
	// default to RootCAs. Who may be what by its certificate is for Authorize to say. ServerName, if set, is a host name that
	// the certificates of all members are valid for, instead of the hosts of their addresses. Nil: plain TCP, and whoever
	// reaches the port may be everything.
	// Its callbacks work, GetConfigForClient too; whatever that returns, clients need a certificate. All are called from
	// goroutines of their own; one that does not return fails its handshake.
	TLS *tls.Config

	// GetTLS, if not nil, is asked for the TLS configuration at each handshake, dialled or accepted, instead of TLS: so that
	// certificates and authorities can be replaced without a restart. What it returns must be what TLS must be, and not change
	// afterwards; in case of an error the last one is used. Called from many goroutines. Listen calls it once, and fails with it.
	GetTLS func() (*tls.Config, error)

	// Authorize, if not nil, decides in place of [AuthorizeByCertificate] who may be what: on both sides, after TLS has looked for
	// a certificate of an authority that is trusted, at each handshake, and again for all sessions that stand when certificates are
	// renewed. An error refuses, and its text is told to the other side. Called from many goroutines; one that panics or
	// does not return by the end of ctx, which is that of the handshake, has refused. Without TLS it is asked, too.
	Authorize func(ctx context.Context, c Claim) error

	// Hello says what we tell about ourselves now, at each handshake: Cluster, ClusterID, Incarnation, Members, Extra,
	// Born, Birth, Known, Joining, Heal, Roster, List.
	// The transport fills the other fields. Called from many goroutines. Required.
	Hello func() Hello

	// Admit decides, after the built-in checks but that for whom we know, whether we may talk to the one who said this: at dials and at
	// accepts. An error refuses, and its text is told to the other side; one that wraps [ErrNotNow] says that it is not the
	// other's fault, [ErrRemoved] that it is no member any more, [ErrUnknownMember] that it is none. It may make the peers others, and may wait for a disk: it is called from a goroutine of its own, and as long as it has not returned nothing waits
	// but this handshake, which ends with HandshakeTimeout. Nil: yes.
	Admit func(Hello) error

	// Refused is told each time a peer refused us, or we refused one; err is a *RefusedError. The name is what the other
	// side claims, or the one dialled. Called from one goroutine, for which nobody waits but Close: of one that is slow more than 256
	// refusals are not told. Nil: only logged.
	Refused func(name string, err error)

	// Problem is told when something goes wrong with a peer that lasts, and with a nil error when it is over: peer is its name,
	// kind a short constant. Called from one goroutine, for which nobody waits but Close: to one that is slow only the last of each kind and
	// peer is told. Nil: only logged.
	Problem func(peer, kind string, err error)

	DialTimeout      time.Duration // connecting to one address. 0: 1 s
	HandshakeTimeout time.Duration // from connection to admission. 0: 3 s

	// Logger gets a line for connections made, lost and refused. Nil: slog.Default().
	Logger *slog.Logger
}

// Faults returns all faults of c. It resolves no names.
func (c Config) Faults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("transport: "+format, args...)) }

	faults = append(faults, ValidatePeers(c.Self, c.Peers)...)
	if c.Hello == nil {
		fault("Hello is required")
	}
	if c.DialTimeout < 0 {
		fault("DialTimeout is negative: %v", c.DialTimeout)
	}
	if c.HandshakeTimeout < 0 {
		fault("HandshakeTimeout is negative: %v", c.HandshakeTimeout)
	}
	faults = append(faults, validateTLS(c.TLS)...)
	if c.TLS != nil && c.GetTLS != nil {
		fault("TLS and GetTLS are both set")
	}
	return faults
}

// ValidatePeers returns what is wrong with a list of members.
func ValidatePeers(self Peer, peers []Peer) []error {
	var faults []error
	one := func(what string, p Peer, bind bool) {
		if p.ID == 0 || p.ID >= math.MaxUint64-1 {
			faults = append(faults, fmt.Errorf("transport: %s: id %d is reserved", what, p.ID))
		}
		if p.Name == "" || len(p.Name) > maxName {
			faults = append(faults, fmt.Errorf("transport: %s: name %q is not 1 to %d bytes long", what, p.Name, maxName))
		}
		if _, err := CheckAddr(p.Addr, bind); err != nil {
			faults = append(faults, fmt.Errorf("transport: %s: %w", what, err))
		}
	}
	// An own port 0 is learnt from TCP.Addr. Nobody dials it.
	_, port, _ := net.SplitHostPort(self.Addr)
	one("Self", self, port == "0")
	ids := map[uint64]string{self.ID: self.Name}
	names := map[string]bool{self.Name: true}
	for i, p := range peers {
		if p == self {
			continue
		}
		one(fmt.Sprintf("peer %d (%q)", i, p.Name), p, false)
		if other, ok := ids[p.ID]; ok {
			faults = append(faults, fmt.Errorf("transport: members %q and %q have the same id %d", other, p.Name, p.ID))
		}
		if names[p.Name] {
			faults = append(faults, fmt.Errorf("transport: two members are named %q", p.Name))
		}
		ids[p.ID], names[p.Name] = p.Name, true
	}
	return faults
}

// WithDefaults returns c with every zero value that has a default replaced by it.
func (c Config) WithDefaults() Config {
	if c.DialTimeout == 0 {
		c.DialTimeout = time.Second
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = 3 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}
