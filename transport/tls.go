package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// maxStuckTLS bounds the handshakes that are left behind because something that the program gave us has not returned.
const maxStuckTLS = 64

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
	stuck atomic.Int32                // handshakes that were left behind
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

// server returns what a listener's handshake uses.
func (s *security) server(c *tls.Config) *tls.Config {
	given := c
	c = s.common(c)
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientCAs == nil {
		c.ClientCAs = c.RootCAs
	}
	if f := given.GetConfigForClient; f != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			other, err := f(hello)
			if other == nil || err != nil {
				return nil, err
			}
			// Whatever it says otherwise, nobody gets in who has no certificate of an authority that is named.
			other = other.Clone()
			other.GetConfigForClient = nil
			if other.RootCAs == nil {
				other.RootCAs = given.RootCAs
			}
			return s.server(other), nil
		}
	}
	return c
}

// client returns what the dialler of addr uses.
func (s *security) client(c *tls.Config, addr string) *tls.Config {
	c = s.common(c)
	if c.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			// A zone is the dialler's own business: no certificate has it.
			c.ServerName, _, _ = strings.Cut(host, "%")
		}
	}
	return c
}

// common is what both sides share. Every handshake is a full one: a resumed one would not look at the authorities again.
func (s *security) common(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	c.SessionTicketsDisabled, c.ClientSessionCache = true, nil
	s.certs.watchOwn(c)
	return c
}

// secure makes the TLS handshake of a connection. wrap makes the connection of a configuration. The program's callbacks run
// in a goroutine of their own: one that panics, ends its goroutine or does not return fails this handshake only.
func (e *endpoint) secure(ctx context.Context, wrap func(*tls.Config) *tls.Conn) (*tls.Conn, error) {
	if e.tls.stuck.Load() >= maxStuckTLS {
		return nil, fmt.Errorf("TLS: %d callbacks of the program have not returned", maxStuckTLS)
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.HandshakeTimeout)
	defer cancel()
	type result struct {
		c   *tls.Conn
		err error
	}
	done := make(chan result, 1)
	e.tls.stuck.Add(1)
	go func() {
		out := result{err: errors.New("TLS: a callback of the program ended its goroutine")}
		defer func() {
			if p := recover(); p != nil {
				out = result{err: fmt.Errorf("TLS: a callback of the program panicked: %v", p)}
			}
			e.tls.stuck.Add(-1)
			done <- out
		}()
		cfg, err := e.tls.config()
		if err != nil {
			e.said.say(slog.LevelWarn, lineTLS, "", err.Error(), "error", err)
			if cfg == nil {
				out.err = err
				return
			}
		} else if e.said.over(lineTLS, "") {
			e.cfg.Logger.Info("TLS configuration is renewed again")
		}
		c := wrap(cfg)
		out = result{c, c.HandshakeContext(ctx)}
	}()
	select {
	case r := <-done:
		return r.c, r.err
	case <-ctx.Done():
	}
	// The handshake ends with ctx, unless it waits for the program.
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case r := <-done:
		return r.c, r.err
	case <-t.C:
		return nil, errors.New("TLS: a callback of the program has not returned")
	}
}
