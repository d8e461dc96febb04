package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// This file is the operator's side: calls that change the cluster, which need Config.Operator.

var (
	// ErrNotOperator is returned by the calls that change a cluster where Config.Operator is not set, or a member does not take
	// this client for an operator.
	ErrNotOperator = errors.New("baton: only an operator may do that")
	// ErrNoMember is returned, wrapped, where no member has the name that was given.
	ErrNoMember = errors.New("baton: no member has that name")
)

// A Reason says in one word, for programs, why something was refused.
type Reason = wire.Reason

// The reasons of refusals: those of package ha of the same names.
const (
	ReasonNoMember      = wire.ReasonNoMember
	ReasonExists        = wire.ReasonExists
	ReasonNewcomer      = wire.ReasonNewcomer
	ReasonQuorum        = wire.ReasonQuorum
	ReasonNotCaughtUp   = wire.ReasonNotCaughtUp
	ReasonLastVoter     = wire.ReasonLastVoter
	ReasonChanging      = wire.ReasonChanging
	ReasonOutdated      = wire.ReasonOutdated
	ReasonBadChange     = wire.ReasonBadChange
	ReasonNoSuccessor   = wire.ReasonNoSuccessor
	ReasonNotHandedOver = wire.ReasonNotHandedOver
	ReasonNoLeader      = wire.ReasonNoLeader
	ReasonNotChosen     = wire.ReasonNotChosen
)

// A ChangeError is returned when a member refuses what an operator wants: it was not done and will not be.
type ChangeError struct {
	Change string // what was wanted, in words
	Reason Reason
	Detail string // what is missing or in the way; may be empty
}

func (e *ChangeError) Error() string {
	text := fmt.Sprintf("baton: %s: %v", e.Change, e.Reason)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// A NewMember is a member to be added: its process runs with an empty directory and ha.Config.Join.
type NewMember struct {
	Name, Addr string
	Advertise  string
	Kind       string // "voter", which "" is, "observer" or "arbiter"
	Priority   int
}

// kinds are the kinds of members as they are on the wire.
var kinds = map[string]uint8{"": 0, "voter": 0, "observer": 1, "arbiter": 2}

// AddMember adds a member, as ha.Node.AddMember does. This and the calls below may be asked of any member and go to the leader; they wait
// for one until ctx ends. A *[ChangeError] says why something was refused; [ErrUnknown] means that it may have been done, or may be
// yet: ask again, which does no harm. Other errors are [ErrNotOperator], [ErrClosed] and those of [Client.Active].
func (c *Client) AddMember(ctx context.Context, m NewMember) error {
	what := fmt.Sprintf("add %s at %s", m.Name, m.Addr)
	kind, ok := kinds[m.Kind]
	if !ok {
		return &ChangeError{Change: what, Reason: ReasonBadChange, Detail: fmt.Sprintf("there is no %q: it is voter, observer or arbiter", m.Kind)}
	}
	return c.change(ctx, what, wire.Change{Op: wire.OpAdd, Name: m.Name, Addr: m.Addr, Advertise: m.Advertise, Kind: kind, Priority: priority(m.Priority)})
}

// RemoveMember removes a member for good.
func (c *Client) RemoveMember(ctx context.Context, name string) error {
	return c.change(ctx, "remove "+name, wire.Change{Op: wire.OpRemove, Name: name})
}

// ReplaceMember lets a process that waits at the address of a member, with a new directory and under its name, take its place.
func (c *Client) ReplaceMember(ctx context.Context, name string) error {
	return c.change(ctx, "replace "+name, wire.Change{Op: wire.OpReplace, Name: name})
}

// Promote makes a voter of an observer that has caught up.
func (c *Client) Promote(ctx context.Context, name string) error {
	return c.change(ctx, "promote "+name, wire.Change{Op: wire.OpPromote, Name: name})
}

// Demote makes an observer of a voter.
func (c *Client) Demote(ctx context.Context, name string) error {
	return c.change(ctx, "demote "+name, wire.Change{Op: wire.OpDemote, Name: name})
}

// ChangeAddr changes where the others reach a member.
func (c *Client) ChangeAddr(ctx context.Context, name, addr string) error {
	return c.change(ctx, fmt.Sprintf("change the address of %s to %s", name, addr), wire.Change{Op: wire.OpAddr, Name: name, Addr: addr})
}

// SetPriority changes the priority of a member: the role goes to one of the highest.
func (c *Client) SetPriority(ctx context.Context, name string, to int) error {
	return c.change(ctx, fmt.Sprintf("change the priority of %s to %d", name, to), wire.Change{Op: wire.OpPriority, Name: name, Priority: priority(to)})
}

func priority(p int) int32 { return int32(min(max(p, -1_000_000), 1_000_000)) }

// change asks one member after the other for a change until one has an answer.
func (c *Client) change(ctx context.Context, what string, q wire.Change) error {
	b, err := q.Encode()
	if err != nil {
		return &ChangeError{Change: what, Reason: ReasonBadChange, Detail: err.Error()}
	}
	if !c.cfg.Operator {
		return ErrNotOperator
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	var unknown, leaderless error
	for pause := (backoff{}); ; {
		refusals, all := 0, c.places(false)
		for _, at := range all {
			err = c.ask(ctx, at, wire.KindMembers, what, b)
			var refused *ChangeError
			switch {
			case err == nil, errors.As(err, &refused):
				return err
			case errors.Is(err, ErrUnknown):
				unknown = err
			case errors.Is(err, errNoLeader):
				leaderless = err
			case forGood(err), errors.Is(err, ErrNotOperator):
				refusals++
			}
			if ctx.Err() != nil {
				break
			}
		}
		switch {
		case refusals == len(all):
			return err
		case ctx.Err() == nil && pause.wait(ctx):
		case unknown != nil:
			return unknown
		case leaderless != nil:
			return fmt.Errorf("baton: %s: %w: %w: %w", what, ErrNoActive, context.Cause(ctx), leaderless)
		default:
			return fmt.Errorf("baton: %s: %w: %w: %w", what, ErrUnreachable, context.Cause(ctx), err)
		}
	}
}

// ask asks one member for a change or a command.
func (c *Client) ask(ctx context.Context, at place, kind, what string, request []byte) error {
	st, err := c.sessions.open(ctx, at, kind)
	if err != nil {
		return err
	}
	defer st.Close()
	var b []byte
	if err = st.Send(request); err == nil {
		b, err = st.Recv(wire.MaxChange)
	}
	var a wire.ChangeAnswer
	if err == nil {
		a, err = wire.ParseChangeAnswer(b)
	}
	switch {
	case err != nil:
		return notDone(err, what)
	case a.Outcome == wire.Made:
		return nil
	case a.Outcome == wire.Refused:
		return &ChangeError{Change: what, Reason: Reason(a.Reason), Detail: a.Text}
	case a.Outcome == wire.Moved:
		return fmt.Errorf("%v: %w", at, errNoLeader)
	}
	return fmt.Errorf("%w: %s: %s", ErrUnknown, what, a.Text)
}

// notDone says what a stream's error means for what was asked on it: nothing was done, or nobody knows.
func notDone(err error, what string) error {
	var ended *session.StreamError
	if errors.As(err, &ended) && ended.Remote {
		switch ended.Code {
		case session.StreamForbidden:
			return fmt.Errorf("%w: %s", ErrNotOperator, ended.Text)
		case session.StreamTooLarge: // it was not read
			return fmt.Errorf("%w: %s: %s", ErrTooLarge, what, ended.Text)
		case session.StreamNoKind, session.StreamBusy, wire.CodeMalformed:
			return fmt.Errorf("baton: %s: %w", what, err)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnknown, what, err)
}

// HandOver moves the role: away from the Active, to the best of the others, or to the member of a name. It returns when another member leads, or
// the one that was named is Active. A *[ChangeError] says why it was not done, with the reasons of ha.Node.Become.
func (c *Client) HandOver(ctx context.Context, to string) error {
	if to != "" {
		return c.command(ctx, to, "hand over to "+to, wire.Command{Op: wire.CommandTakeOver})
	}
	active, err := c.Active(ctx)
	if err != nil {
		return err
	}
	return c.command(ctx, active.Name, "hand over from "+active.Name, wire.Command{Op: wire.CommandHandOver})
}

// StayAway keeps a member from the role until ComeBack; an Active hands over first. See ha.Node.StayAway.
func (c *Client) StayAway(ctx context.Context, member, reason string) error {
	return c.command(ctx, member, "keep "+member+" away from the role", wire.Command{Op: wire.CommandStayAway, Text: reason})
}

// ComeBack ends what StayAway has begun.
func (c *Client) ComeBack(ctx context.Context, member string) error {
	return c.command(ctx, member, "let "+member+" have the role again", wire.Command{Op: wire.CommandComeBack})
}

// command wants something of one member itself.
func (c *Client) command(ctx context.Context, member, what string, q wire.Command) error {
	b, err := q.Encode()
	if err != nil {
		return &ChangeError{Change: what, Reason: ReasonBadChange, Detail: err.Error()}
	}
	if !c.cfg.Operator {
		return ErrNotOperator
	}
	at, err := c.placeOf(ctx, member)
	if err != nil {
		return err
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	return c.ask(ctx, at, wire.KindCommand, what, b)
}

// Who returns the name of the member that answers at an address, host:port.
func (c *Client) Who(ctx context.Context, addr string) (member string, err error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	m, err := c.sessions.get(ctx, place{addr: addr})
	if err != nil {
		return "", err
	}
	return m.Peer().Name, nil
}

// placeOf returns where a member is. One that waits to be added may have been the first to answer, and knows of nobody: others are heard first.
func (c *Client) placeOf(ctx context.Context, member string) (place, error) {
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	_ = c.await(ctx, func() bool {
		_, ok := c.now.Find(member)
		return ok || c.now.InTouch
	})
	m, ok := c.Cluster().Find(member)
	if !ok {
		return place{}, fmt.Errorf("%w: %q", ErrNoMember, member)
	}
	return place{m.Addr, m.Name}, nil
}

// Append appends a record of at most 1 MiB on the Active, past the program's own Handle, and returns its index and epoch once it
// cannot be lost (G1). It follows a failover as long as the record is surely not in the log yet. Any other outcome is definite, or
// [ErrUnknown] (G3): an append that is made again after that may be there twice. What records mean is the program's business: one that
// it does not understand may stop it.
func (c *Client) Append(ctx context.Context, record []byte) (index, epoch uint64, err error) {
	switch {
	case !c.cfg.Operator:
		return 0, 0, ErrNotOperator
	case len(record) > wire.MaxAppend:
		return 0, 0, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(record), wire.MaxAppend)
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	for pause := (backoff{}); ; {
		active, err := c.Active(ctx)
		if err != nil {
			return 0, 0, err
		}
		a, err := c.appendAt(ctx, place{active.Addr, active.Name}, record)
		switch {
		case err == nil && a.Outcome == wire.Made:
			return a.Index, a.Epoch, nil
		case err == nil && a.Outcome == wire.Refused:
			return 0, 0, fmt.Errorf("baton: append: %s", a.Text)
		case errors.Is(err, ErrUnknown), errors.Is(err, ErrNotOperator), errors.Is(err, ErrTooLarge), forGood(err):
			return 0, 0, err
		}
		if !pause.wait(ctx) {
			return 0, 0, fmt.Errorf("%w: %w", ErrNoActive, context.Cause(ctx))
		}
	}
}

// appendAt asks one member. Without an error the record was appended, or surely was not.
func (c *Client) appendAt(ctx context.Context, at place, record []byte) (a wire.AppendAnswer, err error) {
	st, err := c.sessions.open(ctx, at, wire.KindAppend)
	if err != nil {
		return a, err
	}
	defer st.Close()
	if err := st.Send(wire.AppendRequest(record)); err != nil {
		return a, notDone(err, "append")
	}
	b, err := st.Recv(wire.MaxAppendAnswer)
	if err == nil {
		a, err = wire.ParseAppendAnswer(b)
	}
	if err != nil {
		return a, notDone(err, "append")
	}
	switch a.Outcome {
	case wire.Made, wire.Refused, wire.Moved:
		return a, nil
	}
	return a, fmt.Errorf("%w: append: %s", ErrUnknown, a.Text)
}

// Backup writes a backup of the cluster, made by one member, to w, and returns how many bytes it has: see ha.Node.Backup. Whether it
// is whole ha.ReadBackup says; after an error it is not. "" for the member asks any.
func (c *Client) Backup(ctx context.Context, member string, w io.Writer) (size int64, err error) {
	if !c.cfg.Operator {
		return 0, ErrNotOperator
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	err = c.eachOf(ctx, member, func(at place) (answered bool, err error) {
		st, err := c.sessions.open(ctx, at, wire.KindBackup)
		if err != nil {
			return false, err
		}
		defer st.Close()
		if err := st.Send(wire.BackupRequest()); err != nil {
			return false, err
		}
		size, err = io.Copy(w, st)
		return size > 0, err
	})
	if errors.Is(err, &session.StreamError{Code: session.StreamForbidden}) {
		err = fmt.Errorf("%w: %w", ErrNotOperator, err)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return size, err
}

// eachOf asks the member of a name, or one after the other until one has answered, rather one that is not Active. Its error is the last one.
func (c *Client) eachOf(ctx context.Context, member string, ask func(at place) (answered bool, err error)) (err error) {
	all := c.places(true)
	if member != "" {
		at, err := c.placeOf(ctx, member)
		if err != nil {
			return err
		}
		all = []place{at}
	}
	for _, at := range all {
		answered := false
		if answered, err = ask(at); answered || err == nil {
			return err
		}
	}
	return err
}

// reportPatience is how long one of several members is waited for before another one is asked.
const reportPatience = 3 * time.Second
