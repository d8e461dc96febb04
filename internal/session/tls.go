package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// ValidateTLS reports everything for which [Listen] would refuse a TLS configuration, or nil.
func ValidateTLS(c *tls.Config) error { return errors.Join(validateTLS(c)...) }

func validateTLS(c *tls.Config) []error {
	if c == nil {
		return nil
	}
	var faults []error
	if len(c.Certificates) == 0 && (c.GetCertificate == nil || c.GetClientCertificate == nil) {
		faults = append(faults, errors.New("transport: TLS has no certificate: it needs Certificates, or both GetCertificate and GetClientCertificate"))
	}
	if c.RootCAs == nil {
		faults = append(faults, errors.New("transport: TLS has no RootCAs: any authority of the system would do"))
	}
	if c.InsecureSkipVerify {
		faults = append(faults, errors.New("transport: TLS has InsecureSkipVerify set"))
	}
	return faults
}

// security gives each handshake its TLS configuration.
type security struct {
	fixed *tls.Config
	get   func() (*tls.Config, error) // instead of fixed
	last  atomic.Pointer[tls.Config]  // the last good one of get
	certs certificates
}

func (s *security) on() bool { return s.fixed != nil || s.get != nil }

// renewed says that certificates come from the program each time, so that it can renew them.
func (s *security) renewed() bool {
	return s.get != nil || s.fixed != nil && (s.fixed.GetCertificate != nil || s.fixed.GetClientCertificate != nil || s.fixed.GetConfigForClient != nil)
}

// config returns the present configuration. When the program cannot give one, perhaps because files are just being replaced,
// it is the last one, and the error says why.
func (s *security) config() (*tls.Config, error) {
	if s.get == nil {
		return s.fixed, nil
	}
	c, err := s.get()
	switch {
	case err != nil:
		err = inWords(err)
	case c == nil:
		err = errors.New("no configuration")
	default:
		err = ValidateTLS(c)
	}
	if err != nil {
		return s.last.Load(), fmt.Errorf("GetTLS: %w", err)
	}
	s.last.Store(c)
	return c, nil
}

// shown is what the other side of a connection has shown, and how that was judged.
type shown struct {
	state tls.ConnectionState  // with chains
	given *tls.Config          // by which it was judged
	hello *tls.ClientHelloInfo // what it said first, where GetConfigForClient was asked
}

// server returns what a listener's handshake uses. hello takes what the other side says first.
func (s *security) server(c *tls.Config, hello **tls.ClientHelloInfo) *tls.Config {
	given := c
	c = s.common(c)
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientCAs == nil {
		c.ClientCAs = c.RootCAs
	}
	if given.GetConfigForClient != nil {
		c.GetConfigForClient = func(said *tls.ClientHelloInfo) (*tls.Config, error) {
			*hello = said
			other, err := forClient(given, said)
			if other == nil || err != nil {
				return nil, err
			}
			return s.server(other, nil), nil
		}
	}
	return c
}

// forClient asks GetConfigForClient. Whatever that returns, nobody gets in who has no certificate of an authority that is named.
func forClient(given *tls.Config, said *tls.ClientHelloInfo) (*tls.Config, error) {
	other, err := given.GetConfigForClient(said)
	if other == nil || err != nil {
		return nil, err
	}
	other = other.Clone()
	other.GetConfigForClient = nil
	if other.RootCAs == nil {
		other.RootCAs = given.RootCAs
	}
	return other, nil
}

// client returns what the dialler of addr uses. That the certificate shown is the right member's is for authorize to say, which
// knows other ways to say it than a host name. All else that is looked at by default is looked at here. chains takes what leads
// to an authority.
func (s *security) client(c *tls.Config, addr string, chains *[][]*x509.Certificate) *tls.Config {
	c = s.common(c)
	if c.ServerName == "" {
		c.ServerName = HostOf(addr)
	}
	given := c.Clone()
	c.InsecureSkipVerify, c.VerifyPeerCertificate = true, nil
	c.VerifyConnection = func(state tls.ConnectionState) error {
		err := accept(given, &state, x509.ExtKeyUsageServerAuth, time.Time{})
		*chains = state.VerifiedChains
		return err
	}
	return c
}

// common is what both sides share. Every handshake is a full one: a resumed one would not look at the authorities again.
func (s *security) common(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	c.SessionTicketsDisabled, c.ClientSessionCache = true, nil
	c.NextProtos = []string{Protocol}
	s.certs.watchOwn(c)
	return c
}

// secure makes the TLS handshake of a connection, as the dialler of addr, or as the listener where that is empty. The
// program's callbacks run in it.
func (e *Endpoint) secure(ctx context.Context, raw net.Conn, who, addr string) (*tls.Conn, *shown, error) {
	type result struct {
		conn *tls.Conn
		*shown
	}
	r, err := outside(ctx, &e.outside, who, "a callback of TLS", e.cfg.HandshakeTimeout, func(ctx context.Context) (result, error) {
		before := e.tls.last.Load()
		cfg, err := e.present()
		if cfg == nil {
			return result{}, err
		}
		if before != nil && e.tls.last.Load() != before {
			Signal(e.tls.certs.changed)
		}
		var chains [][]*x509.Certificate
		r := result{shown: &shown{given: cfg}}
		if addr != "" {
			r.conn = tls.Client(raw, e.tls.client(cfg, addr, &chains))
		} else {
			r.conn = tls.Server(raw, e.tls.server(cfg, &r.hello))
		}
		if err := r.conn.HandshakeContext(ctx); err != nil {
			return result{}, inWords(err)
		}
		if r.state = r.conn.ConnectionState(); addr != "" {
			r.state.VerifiedChains = chains
		}
		return r, nil
	})
	return r.conn, r.shown, err
}

// present returns the present configuration, or the last good one; nil only if there never was one. It is the program's code.
func (e *Endpoint) present() (*tls.Config, error) {
	cfg, err := e.tls.config()
	if err != nil {
		e.Said.Say(slog.LevelWarn, lineTLS, "", err.Error(), "err", err)
	} else if e.Said.Over(lineTLS, "") {
		e.cfg.Logger.Info("TLS configuration is renewed again")
	}
	return cfg, err
}
