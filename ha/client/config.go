package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/session"
)

// Claim is what a member wants to be taken for, and what it has shown for it, as [Config.Authorize] is asked: the same as ha.Claim, whose fields
// docs/reference.md lists.
type Claim = session.Claim

// Config says where a cluster is. It is passed by value and not changed.
type Config struct {
	// Cluster is its name. Required: a cluster of another name refuses.
	Cluster string
	// Addrs are where members may be found, host:port; one that is up is enough. Names are resolved at every dial. Required.
	Addrs []string

	// Name is what the client calls itself, for those who look who is connected; it proves nothing. 1 to 255 bytes.
	// "": the program's name.
	Name string

	// Operator makes the client an operator's: it may change the cluster, where the members take it for one, which with TLS needs a
	// certificate that says so (ha.AuthorizeByCertificate).
	Operator bool

	// TLS, if not nil, secures all connections. It needs a certificate of an authority that the members trust, and RootCAs for
	// theirs. Needed exactly where the members have it.
	TLS *tls.Config
	// GetTLS, if not nil, is asked for the TLS configuration at each connection, instead of TLS.
	GetTLS func() (*tls.Config, error)
	// Authorize, if not nil, decides which certificates are those of members, instead of ha.AuthorizeByCertificate.
	Authorize func(ctx context.Context, c Claim) error

	// DialTimeout is how long one address is waited for to take a connection. 0: 1 s.
	DialTimeout time.Duration

	// MaxCalling bounds the requests, in bytes and 512 for each, whose Call has not returned; more get ErrBusy. 0: 64 MiB.
	MaxCalling int64

	// Logger gets what happens to connections, at level debug, and certificates that are not renewed; from a goroutine
	// of its own: one that is slow delays nothing, and loses lines. Nil: slog.Default().
	Logger *slog.Logger
}

// Validate reports everything that is wrong with c, at once. It resolves no names.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("baton: client.Config."+format, args...))
	}
	if !fence.ValidName(c.Cluster) {
		wrong("Cluster: %q is not a name", c.Cluster)
	}
	if len(c.Addrs) == 0 {
		wrong("Addrs: is empty")
	}
	for i, a := range c.Addrs {
		if _, err := session.CheckAddr(a, false); err != nil {
			wrong("Addrs[%d]: %w", i, err)
		}
	}
	if len(c.Name) > 255 {
		wrong("Name: %d bytes are more than 255", len(c.Name))
	}
	if err := session.ValidateTLS(c.TLS); err != nil {
		wrong("TLS: %w", err)
	}
	if c.TLS != nil && c.GetTLS != nil {
		wrong("GetTLS: TLS is set too")
	}
	if c.DialTimeout < 0 {
		wrong("DialTimeout: %v is negative", c.DialTimeout)
	}
	if c.MaxCalling < 0 {
		wrong("MaxCalling: %d is negative", c.MaxCalling)
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = filepath.Base(os.Args[0])
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = time.Second
	}
	if c.MaxCalling == 0 {
		c.MaxCalling = 64 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Addrs = slices.Clone(c.Addrs)
	return c
}

func (c Config) role() session.Role {
	if c.Operator {
		return session.RoleOperator
	}
	return session.RoleClient
}
