package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const (
	renewAtOne = 16 // sessions that are judged at a time
)

// standing are the connections that stand, with what they were let in as.
type standing struct {
	takenBack atomic.Uint64

	mu  sync.Mutex // guards all
	all map[*Link]*grant
}

// grant is why a connection may be there.
type grant struct {
	claim Claim
	since time.Time
}

func (s *standing) add(l *Link, c Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*Link]*grant{}
	}
	s.all[l] = &grant{claim: c, since: time.Now()}
}

// remove says whether l was still there.
func (s *standing) remove(l *Link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.all[l]
	delete(s.all, l)
	return was
}

func (s *standing) list() map[*Link]*grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.all)
}

// Standing is how many connections stand.
func (e *Endpoint) Standing() int {
	e.standing.mu.Lock()
	defer e.standing.mu.Unlock()
	return len(e.standing.all)
}

// TakenBack is how many have ended since their certificate was not accepted any more.
func (e *Endpoint) TakenBack() uint64 { return e.standing.takenBack.Load() }

// JudgeStanding judges all connections again by the present configuration: those of an authority that is no longer trusted, and
// those that Authorize takes back, end.
func (e *Endpoint) JudgeStanding(ctx context.Context) {
	var cfg *tls.Config
	if e.tls.on() {
		cfg, _ = outside(ctx, &e.outside, "own", "GetTLS", e.cfg.HandshakeTimeout, func(context.Context) (*tls.Config, error) { return e.present() })
		if cfg == nil {
			return // was said, as far as it is known: handshakes fail of it, too
		}
	}
	var wg sync.WaitGroup
	room := make(chan struct{}, renewAtOne)
	for l, g := range e.standing.list() {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			err := e.judgeAgain(ctx, cfg, l, g)
			if err == nil || ctx.Err() != nil {
				return
			}
			name := g.claim.who()
			if errors.Is(err, ErrNoAnswer) {
				// Nobody has said no, and there may be nobody left to talk to where this ends what stands.
				e.Said.Say(slog.LevelWarn, lineNotJudged, name, err.Error(), "peer", name, "err", err)
				return
			}
			if !e.standing.remove(l) {
				return // it has ended meanwhile, and what follows it was judged by itself
			}
			e.standing.takenBack.Add(1)
			e.Said.Say(slog.LevelWarn, lineTakenBack, name, StableText(err), "peer", name, "role", g.claim.Role.String(), "from", l.Raw.RemoteAddr(), "err", err)
			if g.claim.Role == RoleMember {
				e.tls.certs.refuse(name, g.claim.Dialled, fmt.Errorf("a connection of %s has ended: %w", name, err))
			}
			_ = l.Reset() // this process goes on, whatever the connection is for; who has it may not have said so yet (ResetUnless)
		})
	}
	wg.Wait()
}

// judgeAgain judges one connection. A certificate that has expired since is none that was taken back: who may be there and has
// only not renewed it in time may stay until the connection ends.
func (e *Endpoint) judgeAgain(ctx context.Context, cfg *tls.Config, l *Link, g *grant) error {
	c := g.claim
	c.Members = e.Members()
	if l.shown != nil {
		_, err := outside(ctx, &e.outside, outsider(c), "a callback of TLS", e.cfg.HandshakeTimeout, func(context.Context) (struct{}, error) {
			state, err := l.shown.again(cfg, c.Dialled, time.Time{})
			if err != nil {
				if old, past := l.shown.again(cfg, c.Dialled, g.since); past == nil {
					state, err = old, nil
				}
			}
			c.TLS = &state
			return struct{}{}, inWords(err)
		})
		if err != nil {
			return err
		}
	}
	return e.mayBe(ctx, c)
}

// again judges what was shown by another configuration.
func (s *shown) again(cfg *tls.Config, dialled bool, at time.Time) (state tls.ConnectionState, err error) {
	usage := x509.ExtKeyUsageServerAuth
	if !dialled {
		usage = x509.ExtKeyUsageClientAuth
		if cfg.GetConfigForClient != nil && s.hello != nil {
			other, err := forClient(cfg, s.hello)
			if err != nil {
				return state, err
			}
			if other != nil {
				cfg = other
			}
		}
	}
	state = s.state
	err = accept(cfg, &state, usage, at)
	return state, err
}

// accept looks at the certificates of a connection as crypto/tls does it by default, but for the name. at is the time at which
// they are to be valid, zero for now.
func accept(c *tls.Config, state *tls.ConnectionState, usage x509.ExtKeyUsage, at time.Time) error {
	roots := c.RootCAs
	if usage == x509.ExtKeyUsageClientAuth && c.ClientCAs != nil {
		roots = c.ClientCAs
	}
	if at.IsZero() && c.Time != nil {
		at = c.Time()
	}
	certs := state.PeerCertificates
	if len(certs) == 0 || roots == nil {
		return errors.New("no certificate was shown, or none is trusted")
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, cert := range certs[1:] {
		opts.Intermediates.AddCert(cert)
	}
	var err error
	if state.VerifiedChains, err = certs[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	if c.VerifyPeerCertificate != nil {
		raw := make([][]byte, len(certs))
		for i, cert := range certs {
			raw[i] = cert.Raw
		}
		if err := c.VerifyPeerCertificate(raw, state.VerifiedChains); err != nil {
			return err
		}
	}
	if c.VerifyConnection != nil {
		return c.VerifyConnection(*state)
	}
	return nil
}
