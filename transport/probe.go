package transport

import (
	"context"
	"errors"

	"github.com/baton-ha/baton/internal/session"
)

// Probe dials p, makes a handshake of purpose probe, and returns what p says of itself. It fails with a *RefusedError
// when either side refuses, with the error of the dial, or with ctx's; c.Refused is not called. It needs no Listen and
// registers nothing at p: a fresh member can ask before it writes its first byte.
func Probe(ctx context.Context, c Config, p Peer) (Hello, error) {
	_, err := CheckAddr(p.Addr, false)
	if err := errors.Join(c.Validate(), err); err != nil {
		return Hello{}, err
	}
	l, err := session.NewEndpoint(c.withDefaults().SessionConfig).Dial(ctx, p, PurposeProbe)
	if err != nil {
		return Hello{}, err
	}
	return l.Peer, l.Close()
}

// Probe is the package's [Probe] of a member that listens: one handshake with p, which tells both sides about the other.
func (t *TCP) Probe(ctx context.Context, p Peer) (Hello, error) {
	if q := t.dir.Load().byName[p.Name]; q != nil {
		ctx = q.small(ctx)
	}
	l, err := t.end.Dial(ctx, p, PurposeProbe)
	if err != nil {
		return Hello{}, err
	}
	return l.Peer, l.Close()
}
