package ha

import (
	"context"
	"errors"
	"fmt"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file is calls from any member: they go to whoever is Active.

// ErrSessionExpired is returned by Node.Call, with [ErrUnknown], when nobody knows any more whether the call has taken effect: it was repeated
// after its session had been forgotten, because thousands of others were used since, or 4,096 later calls of it.
var ErrSessionExpired = log.ErrSessionExpired

// Call carries a request to the Active, on whichever member it is called, and returns the answer: of [Config.Handle] there or, without one,
// of the StateMachine to the record that the request becomes, nil if it gives none. It follows the Active through
// failovers, and repeats the request under one id until it is answered: it takes effect once (G10). Any number may be
// under way; data must not change until it returns.
//
// Errors: those of the program are a *[CallError]. [ErrTooLarge], and at once [ErrBusy] and [ErrNoRoom], mean that the request has not
// taken effect and never will. [ErrAnswerLost] means that it has, and the answer is not known any more. When ctx ends first, or the
// node closes, the error matches [ErrUnknown] if the request may have got as far as an Active; else it is definite, and wraps the
// cause, or is [ErrClosed]. Within the StateMachine it is [ErrReentrant].
func (n *Node) Call(ctx context.Context, data []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if in := n.log.Inside(); in != "" {
		return nil, n.misused("Call", in)
	}
	if len(data) > wire.MaxCall { // what the Active takes, by its own configuration, it says itself
		return nil, fmt.Errorf("%w: a request of %d bytes", ErrTooLarge, len(data))
	}
	r, err := n.caller.Call(ctx, data)
	if err != nil {
		return nil, n.callError(err)
	}
	return r.Body, nil
}

// callError is what Call returns for an error of the caller's.
func (n *Node) callError(err error) error {
	var failed *wire.CallError
	var unknown *wire.UnknownError
	switch {
	case errors.As(err, &unknown):
		if errors.As(err, &failed) && failed.Reply.Code == wire.CallExpired {
			return fmt.Errorf("%w: %w", ErrUnknown, ErrSessionExpired)
		}
		return fmt.Errorf("%w: %w", ErrUnknown, unknown.Err)
	case errors.Is(err, wire.ErrCallerBusy):
		return ErrBusy
	case errors.Is(err, wire.ErrCallerClosed):
		return ErrClosed
	case errors.As(err, &failed) && err == error(failed):
		return callFailure(&failed.Reply)
	case errors.Is(err, wire.ErrNoActive):
		return errors.Join(n.notActive(), err)
	}
	return err
}

// callFailure is what a reply that is no answer means.
func callFailure(r *wire.Reply) error {
	var is error
	switch r.Code {
	case wire.CallBusy:
		is = ErrBusy
	case wire.CallNoRoom:
		is = ErrNoRoom
	case wire.CallTooLarge:
		is = ErrTooLarge
	case wire.CallAnswerLost:
		is = ErrAnswerLost
	case wire.CallRefused:
		return &CallError{Code: r.Own, Text: string(r.Body)}
	default:
		return fmt.Errorf("baton: the Active says: code %d: %s", r.Code, r.Body)
	}
	return fmt.Errorf("%w: the Active says: %s", is, r.Body)
}

// startCalls lets this member call, and be called.
func (n *Node) startCalls() error {
	n.handling.large = make(chan struct{}, largeCalls)
	n.caller = wire.NewCaller(wire.CallerConfig{
		Active:   func() string { return n.view(n.clock()).Active },
		Changed:  func() <-chan struct{} { return *n.changed.Load() },
		Open:     n.openCalls,
		MaxBytes: n.cfg.MaxPending,
	})
	return n.net.Handle(wire.KindCall, []transport.Role{transport.RoleMember, transport.RoleClient, transport.RoleOperator}, n.serveCalls)
}

// endCalls waits for the end of the role, and ends calls.
func (n *Node) endCalls() {
	<-n.ended
	n.caller.Close()
	n.handling.mu.Lock()
	defer n.handling.mu.Unlock()
	n.handling.closed = true
}

// openCalls opens a line to a member, which may be this one.
func (n *Node) openCalls(ctx context.Context, member string, w wire.Waiting) (wire.Line, error) {
	if member != n.cfg.Name {
		st, err := n.net.Open(ctx, member, wire.KindCall)
		if err != nil {
			return nil, err
		}
		return wire.NewLine(st, w), nil
	}
	return &ownLine{n.newDesk(n.cfg.Name, RoleMember, w.Replied), w}, nil
}

// ownLine is a line of this member's program to this member.
type ownLine struct {
	desk *callDesk
	w    wire.Waiting
}

// Send implements [wire.Line].
func (l *ownLine) Send(q wire.Request) {
	if l.desk.take(q) {
		l.desk.n.log.Wake()
	}
}

// Close implements [wire.Line].
func (l *ownLine) Close() { l.w.Lost(wire.ErrLineLost) }
