package ha

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file is how the members are changed: the calls, on any member, and the way to the leader, who makes the change (reshape.go).

// The errors of changes of the members. Each is the Reason of a *[MembershipError], which says more; the list is what it was.
var (
	// ErrNoMember: no member has that name.
	ErrNoMember = errors.New("no member has that name")
	// ErrMemberExists: another member has that name, or that address.
	ErrMemberExists = errors.New("there is another such member")
	// ErrNewcomer: nobody at the address waits to be added under that name.
	ErrNewcomer = errors.New("nobody there waits to be added")
	// ErrQuorum: fewer than a majority of the voters that there would be are there and have all of the log.
	ErrQuorum = errors.New("the cluster would lose its majority")
	// ErrNotCaughtUp: the member does not have all of the log yet. An AddMember makes it a voter by itself once it has.
	ErrNotCaughtUp = errors.New("it has not caught up")
	// ErrLastVoter: nobody else can have the role, or vote.
	ErrLastVoter = errors.New("it is the last one that can be active")
	// ErrChanging: another change is under way, and does not come to its end.
	ErrChanging = log.ErrChanging
	// ErrOutdated: the list has changed while the change was being made.
	ErrOutdated = log.ErrOutdated
	// ErrBadChange: what was asked for is no change of the members that can be made, as the detail says.
	ErrBadChange = log.ErrBadChange
	// ErrNoLeader: no leader was found before ctx ended.
	ErrNoLeader = errors.New("no leader is known")
)

// reasons are the errors above as they are on the wire. Numbers are not used again.
var reasons = map[uint16]error{
	1: ErrNoMember, 2: ErrMemberExists, 3: ErrNewcomer, 4: ErrQuorum, 5: ErrNotCaughtUp, 6: ErrLastVoter, 7: ErrChanging, 8: ErrOutdated,
	9: ErrBadChange, 10: ErrNoSuccessor, 11: ErrNotHandedOver, 12: ErrNoLeader, 13: ErrNotChosen,
}

// A MembershipError is returned when a change of the members is refused: it was not made and will not be. It matches Reason, and
// Err if that is not nil, with errors.Is.
type MembershipError struct {
	Change string // what was asked for, in words
	Reason error  // one of the errors of changes, or of Become
	Detail string // what is missing
	Err    error  // the cause of ctx, if that has ended first
}

func (e *MembershipError) Error() string {
	text := fmt.Sprintf("baton: %s: %s", e.Change, firstLine(e.Reason))
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns Reason and Err.
func (e *MembershipError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// A Kind says what a member is there for.
type Kind = log.Kind

// The kinds of members.
const (
	// KindVoter counts in every majority, and may be Active.
	KindVoter = log.KindVoter
	// KindObserver has all of the log, counts in no majority, and is never Active.
	KindObserver = log.KindObserver
	// KindArbiter counts in every majority, and is never Active.
	KindArbiter = log.KindArbiter
)

// AddMember adds a member whose process runs with an empty directory and Config.Join, and returns once it is in the list: as an
// observer at first. If it is to vote, the leader makes a voter of it as soon as it has caught up, whoever leads then. To add
// what is there already is no error.
//
// This and the calls below may be made on any member; it carries them to the leader. They wait for a leader until ctx ends, and for
// a change that is under way for two election timeouts. The change is then in force, by a majority of the voters of before and one
// of those of after it. A *[MembershipError] says why it was not made. [ErrUnknown] means that it may have been made, or may be yet: ask
// again, which does no harm. Within a callback they return [ErrReentrant] where they would wait for it.
func (n *Node) AddMember(ctx context.Context, m Member) error {
	return n.change(ctx, wire.Change{Op: wire.OpAdd, Name: m.Name, Addr: m.Addr, Advertise: m.Advertise, Kind: uint8(m.Kind), Priority: priorityOf(m.Priority)})
}

// RemoveMember removes a member for good. If it is the leader it hands over first. A member that leaves stops, and its directory can
// be used no more. A name that has left can be removed again.
func (n *Node) RemoveMember(ctx context.Context, name string) error {
	return n.change(ctx, wire.Change{Op: wire.OpRemove, Name: name})
}

// Promote makes a voter of an observer that has caught up.
func (n *Node) Promote(ctx context.Context, name string) error {
	return n.change(ctx, wire.Change{Op: wire.OpPromote, Name: name})
}

// Demote makes an observer of a voter. If it is the leader it hands over first.
func (n *Node) Demote(ctx context.Context, name string) error {
	return n.change(ctx, wire.Change{Op: wire.OpDemote, Name: name})
}

// ChangeAddr changes where the others reach a member, host:port. Where it listens is for its own configuration to say.
func (n *Node) ChangeAddr(ctx context.Context, name, addr string) error {
	return n.change(ctx, wire.Change{Op: wire.OpAddr, Name: name, Addr: addr})
}

// SetPriority changes the priority of a member: of those that are well and caught up the role goes to one of the highest.
func (n *Node) SetPriority(ctx context.Context, name string, priority int) error {
	return n.change(ctx, wire.Change{Op: wire.OpPriority, Name: name, Priority: priorityOf(priority)})
}

// maxPriority is the greatest, and its negative the least.
const maxPriority = 1_000_000

func priorityOf(p int) int32 { return int32(min(max(p, -maxPriority), maxPriority)) }

// change has a change made by whoever leads, for whom it looks until ctx ends.
func (n *Node) change(ctx context.Context, q wire.Change) error {
	return n.changeWithin(ctx, q, math.MaxInt64)
}

// changeWithin is change for somebody who can ask another member as well: where nobody who leads was found for so long, as on a member that
// waits to be added or is cut off, it ends with errMoved, or ErrUnknown if an attempt before may have succeeded.
func (n *Node) changeWithin(ctx context.Context, q wire.Change, patience time.Duration) error {
	refused := &MembershipError{Change: inWords(q), Reason: ErrBadChange}
	if refused.Detail = faultOf(q); refused.Detail != "" {
		return refused
	}
	var unknown error // why an attempt may have succeeded
	hint := ""        // who leads, as another member knows
	lost := n.clock() // when somebody who leads was found last
	for try := 0; ; try++ {
		changed := *n.changed.Load()
		var err error
		switch leader := cmp.Or(n.Status().Leader, hint, n.someone(try)); leader {
		case "":
			err = ErrNoLeader
		case n.cfg.Name:
			err = n.reshape(ctx, q)
		default:
			err = n.forward(ctx, leader, q)
		}
		hint = ""
		if m := (*movedError)(nil); errors.As(err, &m) {
			hint = m.leader
		}
		var definite *MembershipError
		switch {
		case err == nil, errors.As(err, &definite), errors.Is(err, ErrReentrant):
			return err
		case errors.Is(err, ErrUnknown):
			unknown, lost = err, n.clock()
		case n.clock()-lost > patience:
			return cmp.Or(unknown, errMoved)
		}
		pause := time.NewTimer(min(n.cfg.Heartbeat*time.Duration(1+try), n.cfg.ElectionTimeout))
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
		case <-n.ended:
		}
		pause.Stop()
		switch {
		case n.hasEnded() && unknown == nil:
			return ErrClosed
		case n.hasEnded():
			return fmt.Errorf("%w: %w", ErrUnknown, ErrClosed)
		case ctx.Err() != nil && unknown != nil:
			return fmt.Errorf("baton: %s: %w: %w", refused.Change, ErrUnknown, context.Cause(ctx))
		case ctx.Err() != nil:
			refused.Reason, refused.Err = ErrNoLeader, context.Cause(ctx)
			if err != ErrNoLeader {
				refused.Detail = firstLine(err)
			}
			return refused
		}
	}
}

// patience is for how long a leader is looked for on behalf of an operator: once, where there has been none for long.
func (n *Node) patience() time.Duration {
	s := n.Status()
	if s.State == Joining || slices.ContainsFunc(s.Problems, func(p Problem) bool { return p.Kind == problemLeader }) {
		return 0
	}
	return n.cfg.ElectionTimeout
}

// someone returns another member, each in turn: one that is not reached by the others knows of no leader, and can ask.
func (n *Node) someone(try int) string {
	n.elsewhere.mu.Lock()
	peers := n.peersLocked()
	n.elsewhere.mu.Unlock()
	if len(peers) == 0 {
		return ""
	}
	return peers[try%len(peers)].Name
}

// errMoved is the answer of a member that does not lead, or does no more.
var errMoved = errors.New("baton: another member leads")

// A movedError is errMoved of another member, with who leads as far as that knows.
type movedError struct{ leader string }

func (e *movedError) Error() string { return errMoved.Error() }

func (e *movedError) Is(target error) bool { return target == errMoved }

// forward carries a change to the member that leads. But for a *MembershipError and errMoved, errors leave open what has become of it.
func (n *Node) forward(ctx context.Context, leader string, q wire.Change) error {
	st, err := n.net.Open(ctx, leader, wire.KindMembers)
	if err != nil {
		return fmt.Errorf("%w: ask %s: %w", errMoved, leader, err)
	}
	defer st.Close()
	b, err := q.Encode()
	if err != nil {
		return &MembershipError{Change: inWords(q), Reason: ErrBadChange, Detail: err.Error()}
	}
	if err := st.Send(b); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if b, err = st.Recv(wire.MaxChange); err != nil {
		var ended *transport.StreamError
		if errors.As(err, &ended) && ended.Remote && (ended.Code == transport.StreamNoKind || ended.Code == transport.StreamBusy) { // nobody has seen it
			return fmt.Errorf("%w: ask %s: %w", errMoved, leader, err)
		}
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	a, err := wire.ParseChangeAnswer(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return outcomeOf(inWords(q), a)
}

// outcomeOf is what another member's answer means to whoever has asked for something.
func outcomeOf(what string, a wire.ChangeAnswer) error {
	switch a.Outcome {
	case wire.Made:
		return nil
	case wire.Moved:
		return &movedError{a.Text}
	case wire.Refused:
		reason, ok := reasons[a.Reason]
		if !ok { // a later version's
			reason = ErrBadChange
		}
		return &MembershipError{Change: what, Reason: reason, Detail: a.Text}
	}
	return fmt.Errorf("%w: %s", ErrUnknown, a.Text)
}

// serveChanges answers who asks for a change. A member is told if this one does not lead; for an operator the leader is asked, and it is
// told if that is not found.
func (n *Node) serveChanges(ctx context.Context, st *transport.Stream) error {
	b, err := st.Recv(wire.MaxChange)
	if err != nil {
		return nil // nothing was asked
	}
	q, err := wire.ParseChange(b)
	if err != nil {
		return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
	}
	ask := n.reshape
	if role := st.Peer().Role; role != 0 && role != transport.RoleMember {
		ask = func(ctx context.Context, q wire.Change) error { return n.changeWithin(ctx, q, n.patience()) }
	}
	if fault := faultOf(q); fault != "" {
		err = refuse(ErrBadChange, "%s", fault)
	} else {
		err = ask(ctx, q)
	}
	a := answerOf(err)
	if a.Outcome == wire.Moved {
		a.Text = n.Status().Leader
	}
	_ = st.Send(a.Encode()) // who has not heard it asks again
	return nil
}

// answerOf says how a change ended.
func answerOf(err error) wire.ChangeAnswer {
	var refused *MembershipError
	switch {
	case err == nil:
		return wire.ChangeAnswer{Outcome: wire.Made}
	case errors.As(err, &refused):
		for code, reason := range reasons {
			if reason == refused.Reason {
				return wire.ChangeAnswer{Outcome: wire.Refused, Reason: code, Text: refused.Detail}
			}
		}
	case errors.Is(err, errMoved):
		return wire.ChangeAnswer{Outcome: wire.Moved}
	}
	return wire.ChangeAnswer{Outcome: wire.Unknown, Text: err.Error()}
}

// inWords is what is asked for.
func inWords(q wire.Change) string {
	switch q.Op {
	case wire.OpAdd:
		return fmt.Sprintf("add %v %q at %s", Kind(q.Kind), q.Name, q.Addr)
	case wire.OpRemove:
		return fmt.Sprintf("remove member %q", q.Name)
	case wire.OpPromote:
		return fmt.Sprintf("make a voter of %q", q.Name)
	case wire.OpDemote:
		return fmt.Sprintf("make an observer of %q", q.Name)
	case wire.OpAddr:
		return fmt.Sprintf("change the address of %q to %s", q.Name, q.Addr)
	case wire.OpPriority:
		return fmt.Sprintf("change the priority of %q to %d", q.Name, q.Priority)
	case wire.OpAdvertise:
		return fmt.Sprintf("say that the program of %q is reached at %q", q.Name, q.Advertise)
	case wire.OpReplace:
		return fmt.Sprintf("replace member %q", q.Name)
	}
	return fmt.Sprintf("change %d of member %q", q.Op, q.Name)
}

// faultOf says what is wrong with a request by itself, "" if nothing is.
func faultOf(q wire.Change) string {
	var err error
	switch {
	case !fence.ValidName(q.Name):
		err = fmt.Errorf("%q is not a name", q.Name)
	case q.Op == wire.OpAdd, q.Op == wire.OpAddr:
		_, err = transport.CheckAddr(q.Addr, false)
	}
	switch {
	case err != nil:
		return firstLine(err)
	case q.Op == wire.OpAdd && Kind(q.Kind) > KindArbiter:
		return fmt.Sprintf("there is no %v", Kind(q.Kind))
	}
	return ""
}
