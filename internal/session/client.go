package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// ClientConfig is what a client or an operator needs to reach a member. It is copied; what it points to must not change
// afterwards.
type ClientConfig struct {
	Cluster   string // its name. Required
	ClusterID []byte // compared when both sides know one; empty: any
	Name      string // what it calls itself, for people: 1 to 255 bytes. It proves nothing. Required
	Role      Role   // RoleClient or RoleOperator. 0: RoleClient

	// TLS and GetTLS are those of [Config], Authorize too: it is asked whether the other side is the member that it says it is.
	TLS       *tls.Config
	GetTLS    func() (*tls.Config, error)
	Authorize func(ctx context.Context, c Claim) error

	DialTimeout      time.Duration // connecting to one address. 0: 1 s
	HandshakeTimeout time.Duration // from connection to admission. 0: 3 s

	// Streams bounds what the streams may take. Accept is not used; without a Budget the session gets one of 64 MiB.
	Streams StreamConfig

	// Logger gets a line where certificates are not renewed. Nil: slog.Default().
	Logger *slog.Logger
}

// Validate reports all faults of c at once, or nil.
func (c ClientConfig) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("session: "+format, args...)) }
	if c.Cluster == "" {
		fault("Cluster is required")
	}
	if c.Name == "" || len(c.Name) > maxName {
		fault("Name %q is not 1 to %d bytes long", c.Name, maxName)
	}
	if c.Role.member() && c.Role != 0 || c.Role > RoleOperator {
		fault("Role is %v, not client or operator", c.Role)
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
	return errors.Join(faults...)
}

// clientReads is how much a client reads at a time.
const clientReads = 256 << 10

// Client dials members. Its methods may be called from any goroutine.
type Client struct {
	e       *Endpoint
	streams StreamConfig
}

// NewClient validates c.
func NewClient(c ClientConfig) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Role == 0 {
		c.Role = RoleClient
	}
	e := NewEndpoint(Config{
		Self: Peer{Name: c.Name}, TLS: c.TLS, GetTLS: c.GetTLS, Authorize: c.Authorize, Logger: c.Logger,
		Hello:       func() Hello { return Hello{Cluster: c.Cluster, ClusterID: c.ClusterID} },
		DialTimeout: c.DialTimeout, HandshakeTimeout: c.HandshakeTimeout,
	})
	e.role, e.Members = c.Role, func() []Peer { return nil }
	if c.Streams.Budget == nil {
		c.Streams.Budget = NewBudget(64 << 20)
	}
	c.Streams.Accept = nil
	return &Client{e, c.Streams}, nil
}

// Dial makes a session with the member at an address, whichever it is, or with the one of a name where that is not empty. It
// fails with a *RefusedError when either side refuses, with the error of the dial, or with ctx's. The session must be closed.
func (c *Client) Dial(ctx context.Context, addr, name string) (*Mux, error) {
	if _, err := CheckAddr(addr, false); err != nil {
		return nil, err
	}
	l, err := c.e.Dial(ctx, Peer{Name: name, Addr: addr}, PurposeStream)
	if err != nil {
		return nil, err
	}
	l.r.widen(clientReads)
	return NewMux(l, true, c.streams), nil
}
