package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/sum"
)

// maxHandshakes bounds the connections that have not said who they are.
const maxHandshakes = 64

// lobby holds the connections in the handshake. When it is full the oldest must go: one that says who it is at once, as
// members do, gets in even while strangers fill the lobby and say nothing.
type lobby struct {
	mu      sync.Mutex // guards waiting
	waiting []net.Conn // oldest first
}

func (l *lobby) enter(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxHandshakes {
		l.waiting[0].Close()
		l.waiting = slices.Delete(l.waiting, 0, 1)
	}
	l.waiting = append(l.waiting, c)
}

// swap lets a connection go on waiting as another one.
func (l *lobby) swap(c, as net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, c); i >= 0 {
		l.waiting[i] = as
	}
}

func (l *lobby) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(o net.Conn) bool { return o == c })
}

// accept takes connections until the listener is closed.
func (t *TCP) accept(ctx context.Context, ln net.Listener) {
	var pause backoff
	for {
		conn, err := ln.Accept()
		if err == nil {
			pause = backoff{}
			if t.said.Over(lineCannotAccept, "") {
				t.cfg.Logger.Info("accepting again")
			}
			if !t.spawnServe(ctx, conn) {
				conn.Close()
			}
			continue
		}
		select {
		case <-t.closing: // which comes before the listener's end
			return
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			t.end.Problem("", problemAddress, fmt.Errorf("the listener at %s was closed, by the program: nobody can connect to this member any more", ln.Addr()))
			return
		}
		// Out of file descriptors, most likely. The listener stays open: closing it would say that we are gone.
		t.said.Say(slog.LevelError, lineCannotAccept, "", session.StableText(err), "err", err)
		select {
		case <-time.After(pause.next(5*time.Millisecond, time.Second)):
		case <-ctx.Done():
			return
		}
	}
}

func (t *TCP) spawnServe(ctx context.Context, conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	// Entered here and not in the goroutine, so that there are never more of them than the lobby has places.
	t.counts.accepted.Add(1)
	t.lobby.enter(conn)
	serve := t.serve
	if t.shared != nil {
		serve = t.sort
	}
	t.wg.Go(func() { serve(ctx, conn) })
	return true
}

// serve handles one incoming connection from its first byte to its last.
func (t *TCP) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()

	p, l, err := t.welcome(ctx, raw)
	t.lobby.leave(raw)
	if l != nil {
		defer l.Close()
	}
	if err != nil || l.Peer.Purpose == PurposeProbe {
		return
	}
	if p == nil {
		stop() // it is closed in peace
		defer t.clients.Add(-1)
		err := t.serveStreams(ctx, l, nil)
		t.cfg.Logger.Debug("session ended", "role", l.Peer.Role.String(), "name", l.Peer.Name, "from", raw.RemoteAddr(), "err", err)
		return
	}
	switch l.Peer.Purpose {
	case PurposeSnapshot:
		err = t.takeSnapshot(ctx, p, l)
	case PurposeStream:
		stop() // it is closed in peace
		err = t.serveStreams(ctx, l, p.calls.end)
	default:
		err = t.readMessages(p, l)
	}
	current := p.forget(l)
	if ctx.Err() != nil || !current {
		return
	}
	attrs := []any{"peer", p.Name, "connection", l.Peer.Purpose.String(), "from", raw.RemoteAddr(), "err", err}
	switch {
	case errors.Is(err, session.ErrFrame):
		t.said.Say(slog.LevelError, lineMalformed, p.Name, session.StableText(err), attrs...)
	case l.Peer.Purpose == PurposeSnapshot:
		if err != nil {
			t.said.Say(slog.LevelWarn, lineNotTaken, p.Name, session.StableText(err), attrs...)
		}
	default:
		t.cfg.Logger.Debug("incoming connection ended", attrs...)
		p.ended(ctx, l, err)
	}
}

// welcome makes the handshake of an incoming connection. The peer is nil when the connection was a probe, and done, or a client's.
func (t *TCP) welcome(ctx context.Context, raw net.Conn) (*peer, *session.Link, error) {
	var p *peer
	var admitted *session.Link
	client := false
	l, err := t.end.Answer(ctx, raw, t.known, func(l *session.Link) *RefusedError {
		if l.Peer.Purpose == PurposeProbe {
			return nil
		}
		if l.Peer.Role != 0 && l.Peer.Role != RoleMember {
			r := t.admitClient(l)
			client = r == nil
			return r
		}
		q := t.dir.Load().byName[l.Peer.Name]
		if q == nil {
			return &RefusedError{Peer: l.Peer.Name, Code: CodeUnknownMember, Text: "no longer a member", Local: true}
		}
		r := q.admit(ctx, l)
		if r == nil {
			p, admitted = q, l
		}
		return r
	})
	var r *RefusedError
	switch {
	case err == nil:
		t.reached.Store(true)
		if p != nil {
			t.said.Over(lineRefused, p.Name)
		}
	case errors.As(err, &r):
		who := stranger
		if _, ok := t.known(r.Peer); ok {
			who = r.Peer
		}
		if !t.knownRefusal(l, r, who) {
			t.said.Say(slog.LevelWarn, lineRefused, who, session.RefusalText(r), "err", r)
		}
		t.refused(r)
	case ctx.Err() != nil, errors.Is(err, io.EOF):
		// Also how a check for crash evidence looks from here.
	default:
		t.failed(raw, session.Explain(err, false, t.end.Secure()))
	}
	if err != nil && p != nil {
		p.forget(admitted)
	}
	if err != nil && client {
		t.clients.Add(-1)
	}
	if l != nil && (err != nil || l.Peer.Purpose == PurposeProbe) {
		l.Linger(ctx)
	}
	return p, l, err
}

// knownRefusal reports whether the log has in other words what became of a connection that came in: that the peer was removed, or that there is something
// wrong with a certificate. Whoever refuses ours there does so, too, when it is dialled.
func (t *TCP) knownRefusal(l *session.Link, r *RefusedError, who string) bool {
	if r.Local && r.Code == CodeRemoved {
		return true
	}
	ofMember := who != stranger && l != nil && l.Peer.Role == RoleMember
	return t.toldOf(r) && (ofMember || !r.Local)
}

// failed tells of somebody who did not come as far as saying who he is. Each kind of failure is counted on its own.
func (t *TCP) failed(raw net.Conn, err error) {
	t.counts.failed.Add(1)
	kind, from := session.CauseElsewhere, raw.RemoteAddr().String()
	var cause *session.CauseError
	if errors.As(err, &cause) {
		kind = cause.Kind
	}
	host, _, _ := net.SplitHostPort(from)
	t.said.Say(slog.LevelWarn, lineFailed, kind, host, "from", from, "err", err)
}

// readMessages delivers what comes on a control or bulk connection until its end.
func (t *TCP) readMessages(p *peer, l *session.Link) error {
	limit := t.cfg.MaxFrame
	if l.Peer.Purpose == PurposeControl {
		limit = maxControl
	}
	l.SumBy(func(body []byte) (uint32, bool) { return sumBody(body, sum.Check) })
	taker := newTaker(l)
	defer taker.end()
	counts := &p.bulk.counts
	if l.Peer.Purpose == PurposeControl {
		counts = &p.control.counts
	}
	desk := desk{t: t, lost: &counts.lost, groups: map[uint64]*window{}}
	for number := uint16(0); ; number++ {
		f, err := l.Next(limit)
		if err != nil {
			return heardEnd(l, err)
		}
		switch f.Kind {
		case session.KindMessage:
			if f.Number != number {
				return fmt.Errorf("%w: message %d of the connection comes where %d should: something on the way swallows messages", session.ErrFrame, f.Number, number)
			}
		case session.KindRefuse:
			return t.turnedAway(p, l, f)
		default:
			return fmt.Errorf("%w: type %d on a %v connection", session.ErrFrame, f.Kind, l.Peer.Purpose)
		}
		m, err := decodeMessage(f, l.Peer.Purpose, p.ID, t.cfg.Self.ID)
		if err != nil {
			return err
		}
		counts.received.add(session.HeaderSize + len(f.Body))
		g := t.dir.Load().groups[f.ID]
		switch {
		case g == nil:
		case l.Peer.Purpose == PurposeControl:
			desk.put(g, m, len(f.Body))
		default:
			taker.busy.Store(true)
			g.h.Receive(m)
			taker.busy.Store(false)
		}
	}
}

// turnedAway reports that the dialler refused us after our hello.
func (t *TCP) turnedAway(p *peer, l *session.Link, f session.Frame) error {
	code, text, err := session.DecodeCoded(f.Body)
	if err != nil {
		return err
	}
	r := &RefusedError{Peer: p.Name, Addr: l.Raw.RemoteAddr().String(), Code: Code(code), Text: text}
	t.refused(r)
	return r
}
