package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/baton-ha/baton/internal/session"
)

// Streams travel on connections of their own, one from each member to each other, dialled when the first is opened, and one
// from each client: what they carry never stands in a socket before a heartbeat or an entry.

type (
	// Stream is a conversation with another member, or with a client: bytes or messages, in both directions.
	Stream = session.Stream
	// Sealed is a message that [Stream.SendSealed] sends: Head, and Body, which has a checksum of its own.
	Sealed = session.Sealed
	// StreamHandler serves one stream that another member or a client has opened. ctx ends when the stream does. What it
	// returns ends the stream: nil as Stream.Close, a *StreamError with its code and text, another error with StreamFailed and
	// its text. It must return when ctx ends, and must not call [TCP.Close]. A panic is the stream's, and logged.
	StreamHandler = session.Handler
	// StreamError is the end of a stream that was not closed in peace.
	StreamError = session.StreamError
	// StreamCode is why, as it is on the wire.
	StreamCode = session.StreamCode
)

// The codes of StreamError that are not the program's own, which begin with FirstOwnCode. After StreamNoKind,
// StreamForbidden and StreamBusy from the other side nobody has seen the stream.
const (
	StreamCancelled = session.StreamCancelled
	StreamDeadline  = session.StreamDeadline
	StreamNoKind    = session.StreamNoKind
	StreamForbidden = session.StreamForbidden
	StreamBusy      = session.StreamBusy
	StreamFailed    = session.StreamFailed
	StreamClosed    = session.StreamClosed
	StreamTooLarge  = session.StreamTooLarge
	FirstOwnCode    = session.FirstOwnCode
)

// ErrStreamLost is wrapped by the errors of streams whose connection has ended: what was sent may have arrived, or not.
var ErrStreamLost = session.ErrLost

// service is what serves streams of a kind, and for whom.
type service struct {
	roles []Role
	h     StreamHandler
}

// Handle says what serves streams of a kind, opened by those of the given roles. A kind is 1 to 64 bytes of printable ASCII
// without spaces. It fails where the kind is none or is served already, or with ErrClosed. Until then streams of the kind
// are refused with StreamNoKind.
func (t *TCP) Handle(kind string, roles []Role, h StreamHandler) error {
	if !session.ValidKind(kind) || h == nil || len(roles) == 0 {
		return fmt.Errorf("transport: %q is no kind of streams, or has no handler, or is for nobody", kind)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	d := *t.dir.Load()
	if _, ok := d.kinds[kind]; ok {
		return fmt.Errorf("transport: streams of kind %q are served already", kind)
	}
	d.kinds = maps.Clone(d.kinds)
	d.kinds[kind] = service{slices.Clone(roles), h}
	t.dir.Store(&d)
	return nil
}

// acceptStream decides about a stream that somebody opens.
func (t *TCP) acceptStream(role Role, kind string) (StreamHandler, *StreamError) {
	s, ok := t.dir.Load().kinds[kind]
	switch {
	case !ok:
		return nil, &StreamError{Code: StreamNoKind, Text: fmt.Sprintf("%q serves no streams of kind %q", t.cfg.Self.Name, kind)}
	case !slices.Contains(s.roles, role):
		return nil, &StreamError{Code: StreamForbidden, Text: fmt.Sprintf("streams of kind %q are not for a %v", kind, role)}
	}
	return s.h, nil
}

// Open opens a stream of a kind to another member, and connects to it where that is needed. ctx is the whole stream's: when it
// ends, so does the stream, on both sides. The stream must be closed. Whether the member serves the kind is told by the first Read
// or Recv. It fails with an error that is ErrUnknownMember, with the error of the dial, a *RefusedError, a *StreamError of code
// StreamBusy, ErrClosed, or the cause of ctx. Before the first [TCP.Group] it waits.
func (t *TCP) Open(ctx context.Context, member, kind string) (*Stream, error) {
	for again := true; ; again = false {
		p := t.dir.Load().byName[member]
		if p == nil {
			return nil, fmt.Errorf("transport: %q: %w", member, ErrUnknownMember)
		}
		m, err := p.calls.mux(ctx, t.closing)
		if err != nil {
			return nil, err
		}
		st, err := m.Open(ctx, kind)
		if errors.Is(err, session.ErrLost) && again {
			continue // it has ended since somebody looked
		}
		return st, err
	}
}

// streams is what the sessions of members share, or those of all others.
type streams struct {
	budget *session.Budget
	counts session.StreamCounts
}

// StreamStats counts streams, of members or of all others.
type StreamStats struct {
	Opened, Served, Refused uint64 // by this member; by the other side; refused by this member
	SentBytes               uint64 // of data, given to connections or lost with one
	ReceivedBytes           uint64
	Held                    int64 // bytes of Config.StreamBytes that streams have now
}

func (s *streams) stats() StreamStats {
	c := &s.counts
	return StreamStats{c.Opened.Load(), c.Served.Load(), c.Refused.Load(), c.Sent.Load(), c.Received.Load(), s.budget.Held()}
}

func (t *TCP) streamConfig(s *streams) session.StreamConfig {
	return session.StreamConfig{Budget: s.budget, Counts: &s.counts, MaxStreams: t.cfg.MaxStreams, Logger: t.cfg.Logger}
}

// admitClient lets in somebody who is no member, as long as there are not too many.
func (t *TCP) admitClient(l *session.Link) *RefusedError {
	if t.clients.Add(1) <= int64(t.cfg.MaxClients) {
		return nil
	}
	t.clients.Add(-1)
	return &RefusedError{Peer: l.Peer.Name, Role: l.Peer.Role, Code: CodeBusy, Local: true, Text: fmt.Sprintf("%q has the %d sessions of clients that it takes", t.cfg.Self.Name, t.cfg.MaxClients)}
}

// serveStreams serves the streams of one incoming session until its end, or that of ctx, or until gone is closed.
func (t *TCP) serveStreams(ctx context.Context, l *session.Link, gone <-chan struct{}) error {
	role, c := RoleMember, t.streamConfig(&t.memberStreams)
	if l.Peer.Role != 0 && l.Peer.Role != RoleMember {
		role, c = l.Peer.Role, t.streamConfig(&t.clientStreams)
	}
	c.Accept = func(kind string) (StreamHandler, *StreamError) { return t.acceptStream(role, kind) }
	m := session.NewMux(l, false, c)
	select {
	case <-m.Done():
	case <-gone:
	case <-ctx.Done():
	}
	_ = m.Close()
	var r *RefusedError
	if errors.As(m.Err(), &r) {
		t.refused(r)
	}
	return m.Err()
}

// calls is the session for the streams that we open to a peer. Its goroutine dials when somebody asks.
type calls struct {
	p   *peer
	ask chan chan<- called
	now atomic.Pointer[session.Mux] // the last one
	end chan struct{}               // closed when the peer is removed
}

type called struct {
	m   *session.Mux
	err error
}

func newCalls(p *peer) *calls {
	return &calls{p: p, ask: make(chan chan<- called), end: make(chan struct{})}
}

// mux returns the session, and waits until there is one.
func (c *calls) mux(ctx context.Context, closing <-chan struct{}) (*session.Mux, error) {
	if m := c.now.Load(); m != nil && m.Alive() {
		return m, nil
	}
	reply := make(chan called, 1)
	select {
	case c.ask <- reply:
	case <-c.end:
		return nil, fmt.Errorf("transport: %q: %w", c.p.Name, ErrUnknownMember)
	case <-closing:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case r := <-reply:
		return r.m, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run answers who asks until ctx ends.
func (c *calls) run(ctx context.Context) {
	var m *session.Mux
	drop := func() {
		if m != nil {
			_ = m.Close()
			m = nil
		}
	}
	defer close(c.end)
	defer drop()
	for {
		var over <-chan struct{}
		if m != nil {
			over = m.Done()
		}
		select {
		case reply := <-c.ask:
			var err error
			if m == nil || !m.Alive() {
				drop()
				m, err = c.dial(ctx)
			}
			reply <- called{m, err}
			for err != nil {
				// Whoever has asked meanwhile would wait for the same.
				select {
				case reply := <-c.ask:
					reply <- called{nil, err}
					continue
				default:
				}
				break
			}
		case <-over:
			drop()
		case <-ctx.Done():
			return
		}
	}
}

func (c *calls) dial(ctx context.Context) (*session.Mux, error) {
	t := c.p.t
	l, err := t.end.Dial(c.p.small(ctx), c.p.Peer, PurposeStream)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ErrClosed
		}
		var r *RefusedError
		if errors.As(err, &r) {
			t.refused(r)
		}
		return nil, err
	}
	m := session.NewMux(l, true, t.streamConfig(&t.memberStreams))
	c.now.Store(m)
	return m, nil
}
