package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"
)

const (
	defaultQueueBytes = 64 << 20
	defaultMaxFrame   = 65 << 20

	defaultSnapshotRate = 256 << 10

	minMaxFrame = 64 << 10
	maxMaxFrame = 1 << 30
	maxName     = 255
)

// Peer is one member of the cluster.
type Peer struct {
	ID   uint64 // raft id; not 0 and not one of raft's two highest, reserved ids
	Name string // 1 to 255 bytes
	Addr string // host:port, resolved at every dial, never before; all addresses are tried
}

// Config is what [Listen] and [Probe] need. It is copied; what it points to must not change afterwards.
type Config struct {
	// Self is this member. Required.
	Self Peer

	// Peers are the members to talk to; an entry equal to Self is skipped. [TCP.SetPeers] changes them later.
	Peers []Peer

	// Bind is the address to listen on, host:port. Empty: Self.Addr.
	Bind string

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
	// Born, Birth, Known.
	// The transport fills the other fields. Called from many goroutines. Required.
	Hello func() Hello

	// Admit decides, after the built-in checks, whether we may talk to the one who said this: at dials and at accepts. An
	// error refuses, and its text is told to the other side; one that wraps [ErrNotNow] says that it is not the other's
	// fault. Called from many goroutines. Nil: yes.
	Admit func(Hello) error

	// Refused is told each time a peer refused us, or we refused one; err is a *RefusedError. The name is what the other
	// side claims, or the one dialled. Called from one goroutine, for which nobody waits but Close: of one that is slow more than 256
	// refusals are not told. Nil: only logged.
	Refused func(name string, err error)

	// Problem is told when something goes wrong with a peer that lasts, and with a nil error when it is over: peer is its name,
	// kind a short constant. Called from one goroutine, for which nobody waits but Close: to one that is slow only the last of each kind and
	// peer is told. Nil: only logged.
	Problem func(peer, kind string, err error)

	// QueueBytes bounds each peer's bulk queue, in bytes on the wire. 0: 64 MiB.
	QueueBytes int64

	// MaxFrame bounds one frame's body in bytes, sent and received; all members should have the same. 0: 65 MiB, for
	// entries of 64 MiB. From 64 KiB to 1 GiB.
	MaxFrame int

	DialTimeout      time.Duration // connecting to one address. 0: 1 s
	HandshakeTimeout time.Duration // from connection to admission. 0: 3 s
	WriteTimeout     time.Duration // half of the time in which something of what was sent must be taken; on control connections at most 1 s. 0: 5 s
	SnapshotTimeout  time.Duration // longest standstill of a snapshot's sender; its receiver has three times as long. 0: 10 s
	Backoff          time.Duration // first pause before a redial, doubling with jitter. 0: 10 ms
	MaxBackoff       time.Duration // longest such pause. 0: 1 s, or Backoff if that is longer

	// SnapshotRate is the least rate, in bytes a second, at which a snapshot must arrive: the whole of it may take
	// SnapshotTimeout and its size at this rate. 0: 256 KiB.
	SnapshotRate int64

	// CrashEvidence turns on [Handler.Gone]. Leave it off where a proxy, a firewall or a container's port mapping can
	// answer "connection refused" for a host whose process is alive.
	CrashEvidence bool

	// Logger gets a line for connections made, lost and refused. Nil: slog.Default().
	Logger *slog.Logger
}

// Validate reports all faults of c at once, or nil. It resolves no names.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("transport: "+format, args...)) }

	faults = append(faults, validatePeers(c.Self, c.Peers)...)
	if c.Bind != "" {
		if _, err := CheckAddr(c.Bind, true); err != nil {
			fault("Bind: %w", err)
		}
	}
	if c.Hello == nil {
		fault("Hello is required")
	}
	if c.QueueBytes < 0 {
		fault("QueueBytes is negative: %d", c.QueueBytes)
	}
	if c.SnapshotRate < 0 {
		fault("SnapshotRate is negative: %d", c.SnapshotRate)
	}
	if c.MaxFrame != 0 && (c.MaxFrame < minMaxFrame || c.MaxFrame > maxMaxFrame) {
		fault("MaxFrame is %d, not in [%d, %d]", c.MaxFrame, minMaxFrame, maxMaxFrame)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"DialTimeout", c.DialTimeout}, {"HandshakeTimeout", c.HandshakeTimeout}, {"WriteTimeout", c.WriteTimeout},
		{"SnapshotTimeout", c.SnapshotTimeout}, {"Backoff", c.Backoff}, {"MaxBackoff", c.MaxBackoff},
	} {
		if d.d < 0 {
			fault("%s is negative: %v", d.name, d.d)
		}
	}
	faults = append(faults, validateTLS(c.TLS)...)
	if c.TLS != nil && c.GetTLS != nil {
		fault("TLS and GetTLS are both set")
	}
	return errors.Join(faults...)
}

func validatePeers(self Peer, peers []Peer) []error {
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

// withDefaults returns c with every zero value that has a default replaced by it.
func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.DialTimeout, time.Second)
	def(&c.HandshakeTimeout, 3*time.Second)
	def(&c.WriteTimeout, 5*time.Second)
	def(&c.SnapshotTimeout, 10*time.Second)
	def(&c.Backoff, 10*time.Millisecond)
	def(&c.MaxBackoff, max(time.Second, c.Backoff))
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultQueueBytes
	}
	if c.SnapshotRate == 0 {
		c.SnapshotRate = defaultSnapshotRate
	}
	if c.MaxFrame == 0 {
		c.MaxFrame = defaultMaxFrame
	}
	if c.Bind == "" {
		c.Bind = c.Self.Addr
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("member", c.Self.Name)
	return c
}
