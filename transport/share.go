package transport

import (
	"context"
	"net"
	"sync"

	"github.com/baton-ha/baton/internal/session"
)

// shared is the program's side of a port on which the transport listens, too: a listener that gets the connections that are not ours.
type shared struct {
	t     *TCP
	conns chan net.Conn
	done  chan struct{} // closed when nothing more is handed on
	once  sync.Once
}

func newShared(t *TCP) *shared {
	return &shared{t: t, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Others returns a listener that gets the connections that come to this member's port and are not a member's or a client's, from their first
// byte on; nil unless Config.Share. Until it is accepted from they wait, as those in the handshake do: 64 at most, and no longer
// than HandshakeTimeout. Whoever accepts one must close it. Closing the listener lets further ones be closed at once.
func (t *TCP) Others() net.Listener {
	if t.shared == nil {
		return nil
	}
	return t.shared
}

// Accept implements [net.Listener].
func (s *shared) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
	case <-s.t.closing:
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: s.Addr(), Err: net.ErrClosed}
}

// Close implements [net.Listener]. The port stays open.
func (s *shared) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// Addr implements [net.Listener].
func (s *shared) Addr() net.Addr {
	if a := s.t.Addr(); a != nil {
		return a
	}
	return &net.TCPAddr{}
}

// sort serves an incoming connection that may be somebody else's.
func (t *TCP) sort(ctx context.Context, raw net.Conn) {
	conn, ours, err := session.Sort(ctx, raw, t.end.Secure(), t.cfg.HandshakeTimeout)
	if err == nil && ours {
		t.lobby.swap(raw, conn)
		t.serve(ctx, conn)
		return
	}
	defer t.lobby.leave(raw)
	if err != nil {
		raw.Close()
		return
	}
	patience, cancel := context.WithTimeout(ctx, t.cfg.HandshakeTimeout)
	defer cancel()
	select {
	case t.shared.conns <- conn:
		t.counts.shared.Add(1)
	case <-t.shared.done:
		raw.Close()
	case <-patience.Done():
		raw.Close()
	}
}
