package ha

import (
	"context"
	"errors"
	"fmt"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/transport"
)

// This file lets a program on one member command another: the wish of an operator whom this member's program has authorised is carried
// on a member's stream, to where Config.ObeyMembers lets it in.

// ErrNotObeyed is returned, wrapped, by [Node.BecomeOf] and the like where the other member takes commands of operators only
// (Config.ObeyMembers). Nothing was done.
var ErrNotObeyed = errors.New("baton: the other member takes no commands of members")

// BecomeOf is [Node.Become] of another member, which has [Config.ObeyMembers], or of this one. A *[MembershipError] has the other
// member's reason as Reason ([ErrNoSuccessor], [ErrNotHandedOver], [ErrNotChosen]); [ErrNotObeyed], [ErrNoMember], and where it is not reached an
// error that wraps [ErrNotReached], mean that nothing was done; [ErrUnknown] that it may have been. It waits for the answer until ctx ends.
func (n *Node) BecomeOf(ctx context.Context, member string, s State) error {
	if member == n.cfg.Name {
		return n.Become(ctx, s)
	}
	switch s {
	case Active:
		return n.commandOf(ctx, member, "make "+member+" Active", wire.Command{Op: wire.CommandTakeOver})
	case Standby:
		return n.commandOf(ctx, member, "hand over from "+member, wire.Command{Op: wire.CommandHandOver})
	}
	return fmt.Errorf("baton: BecomeOf(%s, %v): only Active and Standby can be asked for", member, s)
}

// StayAwayOf is [Node.StayAway] of another member, or of this one, with the errors of BecomeOf. The reason has 1 KiB at most.
func (n *Node) StayAwayOf(ctx context.Context, member, reason string) error {
	if member == n.cfg.Name {
		return n.StayAway(ctx, reason)
	}
	return n.commandOf(ctx, member, "keep "+member+" away from the role", wire.Command{Op: wire.CommandStayAway, Text: reason})
}

// ComeBackOf is [Node.ComeBack] of another member, or of this one, with the errors of BecomeOf.
func (n *Node) ComeBackOf(ctx context.Context, member string) error {
	if member == n.cfg.Name {
		n.ComeBack()
		return nil
	}
	return n.commandOf(ctx, member, "let "+member+" have the role again", wire.Command{Op: wire.CommandComeBack})
}

// ErrNotReached is returned, wrapped, by [Node.BecomeOf] and the like where the other member is not reached.
var ErrNotReached = errors.New("baton: the other member is not reached")

// commandOf wants something of another member itself.
func (n *Node) commandOf(ctx context.Context, member, what string, q wire.Command) error {
	if in := n.inside(); in != "" {
		return n.misused(what, in)
	}
	if !n.roster().has(member) {
		return fmt.Errorf("baton: %s: %w", what, ErrNoMember)
	}
	b, err := q.Encode()
	if err != nil {
		return &MembershipError{Change: what, Reason: ErrBadChange, Detail: err.Error()}
	}
	st, err := n.net.Open(ctx, member, wire.KindCommand)
	if err != nil {
		return fmt.Errorf("baton: %s: %w: %w", what, ErrNotReached, err)
	}
	defer st.Close()
	if err = st.Send(b); err == nil {
		b, err = st.Recv(wire.MaxChange)
	}
	var a wire.ChangeAnswer
	if err == nil {
		a, err = wire.ParseChangeAnswer(b)
	}
	var ended *transport.StreamError
	switch {
	case err == nil:
		return outcomeOf(what, a)
	case !errors.As(err, &ended) || !ended.Remote:
	case ended.Code == transport.StreamForbidden: // also of a version that has no Config.ObeyMembers
		return fmt.Errorf("baton: %s: %w", what, ErrNotObeyed)
	case ended.Code == transport.StreamNoKind, ended.Code == transport.StreamBusy, ended.Code == wire.CodeMalformed:
		return fmt.Errorf("baton: %s: %w", what, err)
	}
	return fmt.Errorf("baton: %s: %w: %w", what, ErrUnknown, err)
}
