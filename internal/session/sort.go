package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

// Protocol is ours in ALPN (RFC 7301): both sides of a TLS handshake name it, so that a listener that is shared with other protocols
// can tell our connections from theirs.
const Protocol = "baton"

const recordHandshake = 22 // the first byte of a TLS handshake

var errTold = errors.New("the first message was read")

// Sort reads how a connection begins and says whether it is one of ours: without TLS by its first byte, with TLS by what it names in ALPN. conn
// is the connection as it was before anything was read. The error is that of reading, or ctx's, or that it took longer than the
// timeout; then whose it was is not known.
func Sort(ctx context.Context, raw net.Conn, secure bool, timeout time.Duration) (conn net.Conn, ours bool, err error) {
	if err := raw.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := &replayed{Conn: raw, head: make([]byte, 1)}
	if _, err := io.ReadFull(raw, r.head); err != nil {
		return nil, false, err
	}
	switch first := r.head[0]; {
	case !secure:
		ours = first == openingMagic[0]
	case first == recordHandshake:
		if ours, err = r.namesUs(); err != nil {
			return nil, false, err
		}
	}
	if !stop() {
		return nil, false, context.Cause(ctx)
	}
	return r, ours, raw.SetDeadline(time.Time{})
}

// namesUs reads the first message of a TLS handshake, and says whether it names our protocol. What is no such message is not ours.
func (r *replayed) namesUs() (ours bool, err error) {
	e := &eavesdropper{replayed: r}
	// It ends with errTold, or as whatever is no handshake does.
	_ = tls.Server(e, &tls.Config{GetConfigForClient: func(said *tls.ClientHelloInfo) (*tls.Config, error) {
		ours = slices.Contains(said.SupportedProtos, Protocol)
		return nil, errTold
	}}).Handshake()
	r.head = e.heard
	return ours, e.failed
}

// replayed is a connection of which something was read before, which is read again.
type replayed struct {
	net.Conn
	head []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.head) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.head)
	if r.head = r.head[n:]; len(r.head) == 0 {
		r.head = nil
	}
	return n, nil
}

// CloseWrite closes one direction, where the connection can do that.
func (r *replayed) CloseWrite() error {
	if c, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger is that of a *net.TCPConn.
func (r *replayed) SetLinger(seconds int) error {
	if c, ok := r.Conn.(interface{ SetLinger(int) error }); ok {
		return c.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// An eavesdropper is a connection on which is read and remembered, and nothing written.
type eavesdropper struct {
	*replayed
	heard  []byte
	failed error
}

func (e *eavesdropper) Read(p []byte) (int, error) {
	n, err := e.replayed.Read(p)
	e.heard = append(e.heard, p[:n]...)
	if err != nil {
		e.failed = err
	}
	return n, err
}

func (e *eavesdropper) Write(p []byte) (int, error)      { return len(p), nil }
func (e *eavesdropper) SetDeadline(time.Time) error      { return nil }
func (e *eavesdropper) SetReadDeadline(time.Time) error  { return nil }
func (e *eavesdropper) SetWriteDeadline(time.Time) error { return nil }
func (e *eavesdropper) Close() error                     { return nil }
