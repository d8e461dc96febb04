package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/baton-ha/baton/internal/wire"
)

// The errors of Call. All but ErrUnknown and ErrAnswerLost mean that the request has not taken effect and never will.
var (
	// ErrUnknown: the request may have taken effect, or may do so yet: ctx ended, or the client was closed, before that was known.
	ErrUnknown = errors.New("baton: outcome unknown")
	// ErrSessionExpired comes with ErrUnknown when nobody knows any more: the request was repeated after its session had been forgotten.
	ErrSessionExpired = errors.New("baton: the session has expired")
	// ErrAnswerLost: the request has taken effect once, and the answer is not known any more.
	ErrAnswerLost = errors.New("baton: the answer is not known any more")
	// ErrBusy: the Active has as much to do as it takes, or as many calls of this client wait as Config.MaxCalling allows. At once.
	ErrBusy = errors.New("baton: too many calls are waiting")
	// ErrNoRoom: the Active's disk is nearly full.
	ErrNoRoom = errors.New("baton: no room for more records")
	// ErrTooLarge: the request is larger than the cluster takes.
	ErrTooLarge = errors.New("baton: request too large")
)

// CallError is an error of the cluster's program, as its ha.Config.Handle has returned it.
type CallError struct {
	Code uint32 // the program's own
	Text string
}

func (e *CallError) Error() string { return e.Text }

// Call carries a request to the Active and returns the answer of its program. It follows the Active through failovers, and repeats the
// request under one id until it is answered: it takes effect once (G10), as long as its session is not forgotten, of which members keep
// the 16,384 that were used last. Any number may be under way; they share one stream. data must not change until Call returns.
//
// An error of the program is a *[CallError]. When ctx ends first the error wraps its cause, and matches [ErrUnknown] if the request may
// have got as far as an Active.
func (c *Client) Call(ctx context.Context, data []byte) ([]byte, error) {
	switch {
	case c.sessions.life.Err() != nil:
		return nil, ErrClosed
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case len(data) > wire.MaxCall:
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	r, err := c.caller.Call(ctx, data)
	if err != nil {
		return nil, callError(err)
	}
	return r.Body, nil
}

// newCaller returns what carries the calls of a client.
func (c *Client) newCaller() *wire.Caller {
	return wire.NewCaller(wire.CallerConfig{
		Active: func() string { return c.Cluster().Active },
		Changed: func() <-chan struct{} {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.changed
		},
		Open: func(ctx context.Context, member string, w wire.Waiting) (wire.Line, error) {
			m, ok := c.Cluster().Find(member)
			if !ok {
				return nil, fmt.Errorf("nobody says where %s is", member)
			}
			st, err := c.sessions.open(ctx, place{m.Addr, m.Name}, wire.KindCall)
			if err != nil {
				return nil, err
			}
			return wire.NewLine(st, w), nil
		},
		MaxBytes: c.cfg.MaxCalling,
	})
}

// callError is what Call returns for an error of the caller's.
func callError(err error) error {
	var failed *wire.CallError
	var unknown *wire.UnknownError
	switch {
	case errors.As(err, &unknown) && errors.As(err, &failed) && failed.Reply.Code == wire.CallExpired:
		return fmt.Errorf("%w: %w", ErrUnknown, ErrSessionExpired)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: %w", ErrUnknown, unknown.Err)
	case errors.Is(err, wire.ErrCallerBusy):
		return ErrBusy
	case errors.Is(err, wire.ErrCallerClosed):
		return ErrClosed
	case errors.Is(err, wire.ErrNoActive):
		return errors.Join(ErrNoActive, err)
	case errors.As(err, &failed) && err == error(failed):
		return callFailure(&failed.Reply)
	}
	return err
}

// callFailure is what a reply that is no answer means.
func callFailure(r *wire.Reply) error {
	var is error
	switch r.Code {
	case wire.CallRefused:
		return &CallError{Code: r.Own, Text: string(r.Body)}
	case wire.CallBusy:
		is = ErrBusy
	case wire.CallNoRoom:
		is = ErrNoRoom
	case wire.CallTooLarge:
		is = ErrTooLarge
	case wire.CallAnswerLost:
		is = ErrAnswerLost
	default:
		return fmt.Errorf("baton: the Active says: code %d: %s", r.Code, r.Body)
	}
	return fmt.Errorf("%w: the Active says: %s", is, r.Body)
}
