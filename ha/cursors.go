package ha

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// A Cursor is how far a reader of the log that has a Name (a string) has come: it has done with all records up to Index (a uint64).
type Cursor = log.Cursor

var (
	// ErrTooManyCursors is returned by SaveCursor when there are 256 of them and this would be another one.
	ErrTooManyCursors = log.ErrTooManyCursors
	// ErrBadCursor is returned by the calls about cursors when what is asked for makes no sense, as a place behind the last record.
	ErrBadCursor = log.ErrBadCursor
)

// Cursors returns the cursors of all readers that have a name, by name, as far as this member knows. It never blocks. The slice must not
// be changed.
func (n *Node) Cursors() []Cursor { return n.log.Cursors() }

// Cursor returns the record up to which a reader has come, 0 if it has no cursor, as the leader knows it. It waits for one until ctx ends.
func (n *Node) Cursor(ctx context.Context, name string) (index uint64, err error) {
	return n.cursor(ctx, wire.CursorRequest{Op: wire.OpRead, Name: name})
}

// SaveCursor keeps that the reader of a name (as a member's) has done with all records up to an index, and returns when that is on stable
// storage of a majority. Every member then keeps the records behind it, until the reader has come further or they are more than
// Config.CursorBytes: then they are given up, the problem "cursor" names the reader, and it gets *[CompactedError] when it comes back. A
// cursor never goes back: one that is to must be dropped before. A reader that saves after what it does, and begins behind its
// cursor, does everything at least once.
//
// It may be called on any member, and waits for a leader until ctx ends: then the error wraps [ErrUnknown]. It costs the log
// at most one small entry in 10 ms for all readers together.
func (n *Node) SaveCursor(ctx context.Context, name string, index uint64) error {
	_, err := n.cursor(ctx, wire.CursorRequest{Op: wire.OpMove, Name: name, Index: index})
	return err
}

// DropCursor removes the cursor of a reader that will not come back. It is no error where there is none.
func (n *Node) DropCursor(ctx context.Context, name string) error {
	_, err := n.cursor(ctx, wire.CursorRequest{Op: wire.OpDrop, Name: name})
	return err
}

// cursor has a request carried out by whoever leads.
func (n *Node) cursor(ctx context.Context, q wire.CursorRequest) (uint64, error) {
	if !fence.ValidName(q.Name) {
		return 0, fmt.Errorf("%w: %q is not a name", ErrBadCursor, q.Name)
	}
	for {
		changed := *n.changed.Load()
		attempt, cancel := context.WithTimeout(ctx, 2*n.cfg.ElectionTimeout)
		index, err := n.cursorOnce(attempt, q)
		cancel()
		if err == nil || errors.Is(err, ErrBadCursor) || errors.Is(err, ErrTooManyCursors) {
			return index, err
		}
		pause := time.NewTimer(n.cfg.Heartbeat)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
		case <-n.ended:
		}
		pause.Stop()
		switch {
		case n.hasEnded():
			return 0, fmt.Errorf("%w: %w", ErrUnknown, ErrClosed)
		case ctx.Err() != nil:
			return 0, fmt.Errorf("%w: %w: %w", ErrUnknown, context.Cause(ctx), err)
		}
	}
}

// cursorOnce asks whoever leads at the moment.
func (n *Node) cursorOnce(ctx context.Context, q wire.CursorRequest) (uint64, error) {
	switch leader := n.Status().Leader; leader {
	case "":
		return 0, ErrNoLeader
	case n.cfg.Name:
		return n.moveCursor(ctx, q)
	default:
		return n.askCursor(ctx, leader, q)
	}
}

// moveCursor carries out a request on the leader, which must know all that was committed before: one that was elected a moment ago, or that leads no
// more and does not know it, would find no cursor to drop, or an older place.
func (n *Node) moveCursor(ctx context.Context, q wire.CursorRequest) (uint64, error) {
	if _, err := n.log.ReadIndex(ctx); err != nil {
		return 0, err
	}
	if q.Op == wire.OpRead {
		for _, c := range n.log.Cursors() {
			if c.Name == q.Name {
				return c.Index, nil
			}
		}
		return 0, nil
	}
	return q.Index, n.log.MoveCursor(ctx, log.CursorMove{Cursor: log.Cursor{Name: q.Name, Index: q.Index}, Drop: q.Op == wire.OpDrop})
}

// askCursor asks another member that leads.
func (n *Node) askCursor(ctx context.Context, leader string, q wire.CursorRequest) (uint64, error) {
	st, err := n.net.Open(ctx, leader, wire.KindCursor)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	b, err := q.Encode()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBadCursor, err)
	}
	if err := st.Send(b); err != nil {
		return 0, err
	}
	if b, err = st.Recv(wire.MaxCursor); err != nil {
		return 0, err
	}
	a, err := wire.ParseCursorAnswer(b)
	switch {
	case err != nil:
		return 0, err
	case a.Outcome == wire.Made:
		return a.Index, nil
	case a.Outcome == wire.Refused && a.Text == ErrTooManyCursors.Error():
		return 0, ErrTooManyCursors
	case a.Outcome == wire.Refused:
		return 0, fmt.Errorf("%w: %s", ErrBadCursor, a.Text)
	}
	return 0, errMoved
}

// serveCursor answers a request of a client, for whom the leader is asked, or of a member, who has looked for the leader itself.
func (n *Node) serveCursor(ctx context.Context, st *transport.Stream) error {
	b, err := st.Recv(wire.MaxCursor)
	if err != nil {
		return err
	}
	q, err := wire.ParseCursorRequest(b)
	if err != nil {
		return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
	}
	var a wire.CursorAnswer
	switch {
	case q.Op < wire.OpRead || q.Op > wire.OpDrop:
		err = fmt.Errorf("%w: there is no operation %d", ErrBadCursor, q.Op)
	case st.Peer().Role == 0 || st.Peer().Role == transport.RoleMember:
		if n.Status().Leader != n.cfg.Name {
			err = errMoved
			break
		}
		a.Index, err = n.moveCursor(ctx, q)
	default:
		a.Index, err = n.cursor(ctx, q)
	}
	switch {
	case err == nil:
		a.Outcome = wire.Made
	case errors.Is(err, ErrTooManyCursors):
		a = wire.CursorAnswer{Outcome: wire.Refused, Text: ErrTooManyCursors.Error()}
	case errors.Is(err, ErrBadCursor):
		a = wire.CursorAnswer{Outcome: wire.Refused, Text: firstLine(err)}
	case n.hasEnded():
		return leaving
	default:
		a.Outcome = wire.Moved
	}
	return st.Send(a.Encode())
}
