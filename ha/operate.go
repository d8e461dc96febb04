package ha

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/transport"
)

// This file serves operators and their tools (cmd/baton, package client): what a member says of itself, and what it does because an
// operator wants it. Each stream waits for itself only, and how many there are is bounded: what they ask for is read from
// memory that readers share, or, of events and backups, from files.

const (
	maxReports = 64 // that are served at a time, of those who are no members
	maxAppends = 64 // streams of operators that append
	maxBackups = 2
	// maxReading is how many of the reports read the events of earlier processes at a time, which takes some megabytes.
	maxReading = 2
)

// operators is what is served to them.
type operators struct{ reports, appends, backups, reading chan struct{} } // a token is in it for each that is served

// serveOperators begins to serve them.
func (n *Node) serveOperators() error {
	n.operators = operators{
		reports: make(chan struct{}, maxReports), appends: make(chan struct{}, maxAppends),
		backups: make(chan struct{}, maxBackups), reading: make(chan struct{}, maxReading),
	}
	operator := []transport.Role{transport.RoleOperator}
	return errors.Join(
		n.net.Handle(wire.KindReport, append([]transport.Role{transport.RoleMember}, outsiders...), n.serveReport),
		n.net.Handle(wire.KindCommand, append([]transport.Role{transport.RoleMember}, operator...), n.serveCommand),
		n.net.Handle(wire.KindAppend, operator, n.serveAppends),
		n.net.Handle(wire.KindBackup, operator, n.serveBackup),
	)
}

// enter takes a place among those that are served at a time, until leave is called.
func enter(places chan struct{}, what string) (leave func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
		return nil, &transport.StreamError{Code: transport.StreamBusy, Text: fmt.Sprintf("this member serves %d %s", cap(places), what)}
	}
}

// malformed ends a stream on which something came that is no request.
func malformed(err error) error {
	return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
}

// StatusReport is what a member says of itself and of the others, in one piece, to tools: `baton status -json` shows it.
type StatusReport struct {
	Cluster   string         `json:"cluster"`
	ClusterID string         `json:"cluster_id"` // hexadecimal, zeros before the first epoch
	Time      time.Time      `json:"time"`       // by the member's clock on the wall
	Status    Status         `json:"status"`
	Members   []MemberStatus `json:"members"`
	Workers   []WorkerStatus `json:"workers"`
}

// Report returns what this member says of itself and of the others to tools. It never blocks.
func (n *Node) Report() StatusReport {
	id := n.disk.ClusterID()
	return StatusReport{Cluster: n.cfg.Cluster, ClusterID: hex.EncodeToString(id[:]), Time: time.Now().Round(0), Status: n.Status(), Members: n.Members(), Workers: n.Workers()}
}

// serveReport says what is asked for, each value as a message of JSON.
func (n *Node) serveReport(ctx context.Context, st *transport.Stream) error {
	b, err := st.Recv(wire.MaxReportRequest)
	if err != nil {
		return nil // nothing was asked
	}
	q, err := wire.ParseReportRequest(b)
	if err != nil {
		return malformed(err)
	}
	if callerRole(st.Peer().Role) != RoleMember {
		leave, err := enter(n.operators.reports, "reports")
		if err != nil {
			return err
		}
		defer leave()
	}
	out := newImpatient(st)
	defer out.slow.Stop()
	send := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return out.Send(b)
	}
	switch q.What {
	case wire.ReportStatus:
		return n.reportStatus(ctx, q.Follow, send)
	case wire.ReportStats:
		return send(n.Stats())
	case wire.ReportEvents:
		return n.reportEvents(ctx, q.Follow, send)
	case wire.ReportEpochs:
		for _, e := range n.Epochs() {
			if err := send(e); err != nil {
				return err
			}
		}
		return nil
	}
	return malformed(fmt.Errorf("there is no report %d", q.What))
}

// reportStatus says how this member is, and again when that has changed, at least every ElectionTimeout.
func (n *Node) reportStatus(ctx context.Context, follow bool, send func(any) error) error {
	look := moment.NewTicker(n.cfg.ElectionTimeout) // for what is heard of others
	defer look.Stop()
	for {
		changed := *n.changed.Load()
		if err := send(n.Report()); err != nil || !follow {
			return err
		}
		select {
		case <-changed:
		case <-look.C:
		case <-n.ended:
			return leaving
		case <-ctx.Done():
			return nil
		}
	}
}

// reportEvents gives the events of earlier processes that the directory still has, those of this one, and those to come.
func (n *Node) reportEvents(ctx context.Context, follow bool, send func(any) error) error {
	if err := n.reportEarlier(ctx, send); err != nil {
		return err
	}
	for seq := uint64(0); ; {
		events, more := n.events.after(seq)
		for _, e := range events {
			seq = e.Seq
			if err := send(e); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-more:
		case <-n.ended:
			if events, _ = n.events.after(seq); len(events) == 0 {
				return leaving
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// reportEarlier gives what comes before the events in memory.
func (n *Node) reportEarlier(ctx context.Context, send func(any) error) error {
	select {
	case n.operators.reading <- struct{}{}:
		defer func() { <-n.operators.reading }()
	case <-ctx.Done():
		return nil
	}
	kept, _ := n.events.after(0)
	earlier, _ := readEvents(n.cfg.Dir) // what cannot be read is not worth more than what can
	for _, e := range earlier {
		if len(kept) > 0 && e.Run == kept[0].Run && e.Seq >= kept[0].Seq {
			break
		}
		if err := send(e); err != nil {
			return err
		}
	}
	return nil
}

// EventsOf yields what another member, or this one, has decided and why: the events of its earlier processes that its directory still
// has, those of the present one, oldest first, and with follow each new one, until ctx ends or the connection does. The error comes
// once, last: none at the end of what is kept, the cause of ctx, [ErrNoMember] where the list has no such member, or why the member is not
// reached. Its events are as it has said them.
func (n *Node) EventsOf(ctx context.Context, member string, follow bool) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := n.eventsOf(ctx, member, follow, func(e Event) bool { return yield(e, nil) }); err != nil {
			yield(Event{}, err)
		}
	}
}

func (n *Node) eventsOf(ctx context.Context, member string, follow bool, yield func(Event) bool) error {
	var enough = errors.New("enough")
	take := func(e Event) error {
		if !yield(e) {
			return enough
		}
		return nil
	}
	var err error
	switch {
	case member == n.cfg.Name:
		err = n.reportEvents(ctx, follow, func(v any) error { return take(v.(Event)) })
	case !n.roster().has(member):
		return fmt.Errorf("baton: events of %q: %w", member, ErrNoMember)
	default:
		err = n.fetchEvents(ctx, member, follow, take)
	}
	switch {
	case err == enough:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == error(leaving):
		return ErrClosed
	}
	return err
}

func (n *Node) fetchEvents(ctx context.Context, member string, follow bool, take func(Event) error) error {
	st, err := n.net.Open(ctx, member, wire.KindReport)
	if err != nil {
		return fmt.Errorf("baton: events of %q: %w", member, err)
	}
	defer st.Close()
	if err := st.Send(wire.ReportRequest{What: wire.ReportEvents, Follow: follow}.Encode()); err != nil {
		return fmt.Errorf("baton: events of %q: %w", member, err)
	}
	for {
		b, err := st.Recv(maxEventLine)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var e Event
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			return fmt.Errorf("baton: events of %q: %w", member, err)
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

// serveCommand does what an operator wants of this member, or another member on behalf of one.
func (n *Node) serveCommand(ctx context.Context, st *transport.Stream) error {
	by := st.Peer()
	if callerRole(by.Role) == RoleMember && !n.cfg.ObeyMembers {
		return &transport.StreamError{Code: transport.StreamForbidden, Text: fmt.Sprintf("%s takes no commands of members (Config.ObeyMembers)", n.cfg.Name)}
	}
	b, err := st.Recv(wire.MaxCommand)
	if err != nil {
		return nil // nothing was asked
	}
	q, err := wire.ParseCommand(b)
	if err != nil {
		return malformed(err)
	}
	n.cfg.Logger.Info("commanded", "member", n.cfg.Name, "command", q.Op.String(), "role", callerRole(by.Role).String(), "by", by.Name)
	_ = st.Send(commandAnswer(n.obey(ctx, q)).Encode()) // who has not heard it looks at the status
	return nil
}

func (n *Node) obey(ctx context.Context, q wire.Command) error {
	switch q.Op {
	case wire.CommandHandOver:
		return n.become(ctx, Standby, CauseAsked)
	case wire.CommandTakeOver:
		return n.become(ctx, Active, CauseAsked)
	case wire.CommandStayAway:
		return n.StayAway(ctx, q.Text)
	case wire.CommandComeBack:
		n.ComeBack()
		return nil
	}
	return &MembershipError{Reason: ErrBadChange, Detail: fmt.Sprintf("this member knows no command %d", q.Op)}
}

// commandAnswer says how a command ended. What is in the way of Become is in words already.
func commandAnswer(err error) wire.ChangeAnswer {
	for code, reason := range reasons {
		if errors.Is(err, reason) {
			var refused *MembershipError
			var obstacles *ObstacleError
			switch {
			case errors.As(err, &refused):
				return wire.ChangeAnswer{Outcome: wire.Refused, Reason: code, Text: refused.Detail}
			case errors.As(err, &obstacles):
				return wire.ChangeAnswer{Outcome: wire.Refused, Reason: code, Text: strings.TrimPrefix(obstacles.Error(), reason.Error()+"; ")}
			}
			return wire.ChangeAnswer{Outcome: wire.Refused, Reason: code}
		}
	}
	return answerOf(err)
}

// serveAppends appends a record for an operator.
func (n *Node) serveAppends(ctx context.Context, st *transport.Stream) error {
	leave, err := enter(n.operators.appends, "operators that append")
	if err != nil {
		return err
	}
	defer leave()
	late := time.AfterFunc(slowTail, func() { st.Reset(wire.CodeSlow, "a record did not come to its end") })
	b, err := st.Recv(1 + min(wire.MaxAppend, n.cfg.MaxRecord))
	if late.Stop(); err != nil {
		return nil
	}
	record, err := wire.ParseAppendRequest(b)
	if err != nil {
		return malformed(err)
	}
	t := n.Status().Token
	index, err := n.appendHere(ctx, t, record)
	_ = st.Send(n.appendAnswer(t, index, err).Encode()) // who has not heard it does not know
	return nil
}

func (n *Node) appendHere(ctx context.Context, t fence.Token, record []byte) (uint64, error) {
	if t == (fence.Token{}) {
		return 0, n.notActive()
	}
	return n.Append(ctx, t, record)
}

// appendAnswer says what has become of a record.
func (n *Node) appendAnswer(t fence.Token, index uint64, err error) wire.AppendAnswer {
	switch {
	case err == nil:
		return wire.AppendAnswer{Outcome: wire.Made, Index: index, Epoch: t.Epoch}
	case errors.Is(err, ErrUnknown):
		return wire.AppendAnswer{Outcome: wire.Unknown, Text: err.Error()}
	case errors.Is(err, ErrNotActive), errors.Is(err, ErrFenced), errors.Is(err, ErrClosed):
		return wire.AppendAnswer{Outcome: wire.Moved, Text: n.view(n.clock()).Active}
	}
	return wire.AppendAnswer{Outcome: wire.Refused, Text: err.Error()}
}

// serveBackup writes a backup of this member to an operator.
func (n *Node) serveBackup(ctx context.Context, st *transport.Stream) error {
	b, err := st.Recv(wire.MaxBackupRequest)
	if err != nil {
		return nil // nothing was asked
	}
	if err := wire.ParseBackupRequest(b); err != nil {
		return malformed(err)
	}
	leave, err := enter(n.operators.backups, "backups")
	if err != nil {
		return err
	}
	defer leave()
	out := newImpatient(st)
	defer out.slow.Stop()
	_, err = n.Backup(ctx, out)
	return err
}

// impatient ends a stream while something is written that is not taken.
type impatient struct {
	st   *transport.Stream
	slow *time.Timer
}

func newImpatient(st *transport.Stream) impatient {
	slow := time.AfterFunc(slowTail, func() { st.Reset(wire.CodeSlow, "what was sent was not taken") })
	slow.Stop()
	return impatient{st, slow}
}

func (w impatient) Send(msg []byte) error {
	w.slow.Reset(slowTail)
	defer w.slow.Stop()
	return w.st.Send(msg)
}

func (w impatient) Write(p []byte) (int, error) {
	w.slow.Reset(slowTail)
	defer w.slow.Stop()
	return w.st.Write(p)
}
