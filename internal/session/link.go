package session

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Link is a connection after its handshake, or in it.
type Link struct {
	net.Conn          // TLS, or the same as Raw
	Raw      net.Conn // the socket
	Peer     Hello    // what the other side said
	r        *FrameReader
	in       *counter  // what r reads from
	shown    *shown    // nil: no TLS
	standing *standing // nil: nobody keeps it
	due      time.Time
	last     func() bool // nil: always; Close resets the connection unless it says so
}

// NewLink returns one of a connection, which is TLS or the same as raw.
func NewLink(conn, raw net.Conn) *Link {
	in := &counter{r: readerOf(conn)}
	return &Link{Conn: conn, Raw: raw, in: in, r: NewFrameReader(in)}
}

// ResetUnless makes Close a Reset unless last says that the connection may end as that of a process does that has ended. It must be
// called before anybody else may close it.
func (l *Link) ResetUnless(last func() bool) { l.last = last }

// Close ends the connection at once. It does not say goodbye on TLS, because that can block when the peer does not read.
func (l *Link) Close() error {
	if l.standing != nil {
		l.standing.remove(l)
	}
	if l.last != nil && !l.last() {
		return l.Reset()
	}
	return l.Raw.Close()
}

// Next reads a frame with a body of at most limit bytes. Its error is io.EOF only between frames.
func (l *Link) Next(limit int) (Frame, error) { return l.r.Next(limit) }

// SumBy is that of its FrameReader. It must be called by the connection's reader.
func (l *Link) SumBy(sum Summer) { l.r.SumBy(sum) }

// Opening reads what both sides begin with, and returns the other side's layout version.
func (l *Link) Opening() (uint16, error) { return l.r.Opening() }

// Count has wait called before each read from the connection, from now on, by whoever reads. It returns what of Total was taken by
// then. It must be called by the connection's reader.
func (l *Link) Count(wait func()) (taken int64) {
	l.in.wait = wait
	return l.in.total.Load() - int64(l.r.r.Buffered())
}

// Total is how many bytes were read from the connection.
func (l *Link) Total() int64 { return l.in.total.Load() }

// counter counts what is read from a connection.
type counter struct {
	r     io.Reader
	total atomic.Int64
	wait  func() // before each; nil: nobody is told
}

func (c *counter) Read(b []byte) (int, error) { return c.readPair(b, nil) }

// A pairReader reads to b first, and to beyond what has come behind that, both in one call: what it returns may be more than b holds.
type pairReader interface {
	readPair(b, beyond []byte) (int, error)
}

// readPair is that of a pairReader, and reads only to b where there is none below.
func (c *counter) readPair(b, beyond []byte) (n int, err error) {
	if c.wait != nil {
		c.wait()
	}
	if r, ok := c.r.(pairReader); ok {
		n, err = r.readPair(b, beyond)
	} else {
		n, err = c.r.Read(b)
	}
	if n > 0 {
		c.total.Add(int64(n))
	}
	return n, err
}

// Reset ends the connection at once, and leaves nothing behind that the kernel would try to bring there.
func (l *Link) Reset() error {
	if c, ok := l.Raw.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0)
	}
	return l.Raw.Close()
}

// Finished says whether the other side's kernel has ended the connection in order, with a FIN, and nothing has reset it since. On
// systems where that is not known, it says whether both sides are this host's loopback. It must be called before Close.
func (l *Link) Finished() bool {
	conn := l.Raw
	if r, ok := conn.(*replayed); ok {
		conn = r.Conn
	}
	return finished(conn)
}

// pieceSize is how much must find room within the timeout of what is written, in bytes, or all of it.
const pieceSize = 128 << 10

// Send writes b in pieces, each of which must find room within the timeout.
func (l *Link) Send(b []byte, timeout time.Duration) error {
	for len(b) > 0 {
		if err := l.hurry(timeout); err != nil {
			return err
		}
		n := min(len(b), pieceSize)
		if _, err := l.Conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// sendAll writes pieces, of which so much must find room within the timeout as of what Send writes.
func (l *Link) sendAll(pieces net.Buffers, timeout time.Duration) error {
	for {
		if err := l.hurry(timeout); err != nil {
			return err
		}
		n, err := pieces.WriteTo(l.Raw)
		if n < pieceSize || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		l.due = time.Time{}
	}
}

// hurry sets a deadline for what is written now. That costs more than reading the clock, so one is set for several writes.
func (l *Link) hurry(timeout time.Duration) error {
	now := time.Now()
	if l.due.Sub(now) >= timeout {
		return nil
	}
	l.due = now.Add(timeout + timeout/4)
	return l.SetWriteDeadline(l.due)
}

// Linger lets the other side read what was written last, before the connection is closed: closing with unread input
// would reset it and discard that.
func (l *Link) Linger(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.Raw.Close() })
	defer stop()
	_ = l.SetDeadline(time.Now().Add(lingerTime))
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, l.Conn, 64<<20)
}
