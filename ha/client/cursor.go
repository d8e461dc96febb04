package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/baton-ha/baton/internal/wire"
)

// ErrBadCursor is returned by the calls about cursors when a member refuses what is asked for: the text says why, such as too many
// cursors, a name that is none, or a place behind the last record.
var ErrBadCursor = errors.New("baton: not a cursor that can be")

// Cursor returns the record up to which the reader of a name has come, 0 if it has no cursor: it goes on with
//
//	c.Subscribe(ctx, index+1)
//
// It waits for a leader until ctx ends.
func (c *Client) Cursor(ctx context.Context, name string) (index uint64, err error) {
	return c.cursor(ctx, wire.CursorRequest{Op: wire.OpRead, Name: name})
}

// SaveCursor keeps that a reader has done with all records up to an index, and returns when that is on stable storage of a majority of the
// members. As long as it has not come further they keep what follows, up to ha.Config.CursorBytes of log; who has
// fallen behind further gets a *[CompactedError] from Subscribe. A cursor never goes back. When ctx ends first it may have
// been saved or not; it can be saved again.
func (c *Client) SaveCursor(ctx context.Context, name string, index uint64) error {
	_, err := c.cursor(ctx, wire.CursorRequest{Op: wire.OpMove, Name: name, Index: index})
	return err
}

// DropCursor removes the cursor of a reader that will not come back. It is no error where there is none.
func (c *Client) DropCursor(ctx context.Context, name string) error {
	_, err := c.cursor(ctx, wire.CursorRequest{Op: wire.OpDrop, Name: name})
	return err
}

// cursor asks one member after the other until one has an answer.
func (c *Client) cursor(ctx context.Context, q wire.CursorRequest) (index uint64, err error) {
	b, err := q.Encode()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBadCursor, err)
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	for pause := (backoff{}); ; {
		refusals, all := 0, c.places(false)
		for _, at := range all {
			index, err = c.askCursor(ctx, at, b)
			switch {
			case err == nil, errors.Is(err, ErrBadCursor):
				return index, err
			case ctx.Err() != nil:
				return 0, errors.Join(context.Cause(ctx), err)
			case forGood(err):
				refusals++
			}
		}
		if refusals == len(all) {
			return 0, err
		}
		if !pause.wait(ctx) {
			return 0, errors.Join(context.Cause(ctx), err)
		}
	}
}

var errNoLeader = errors.New("it knows no leader")

// attempt is how long one member is waited for that may have lost touch with the others.
const attempt = 3 * time.Second

// askCursor asks one member.
func (c *Client) askCursor(ctx context.Context, at place, request []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	st, err := c.sessions.open(ctx, at, wire.KindCursor)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	if err := st.Send(request); err != nil {
		return 0, err
	}
	b, err := st.Recv(wire.MaxCursor)
	if err != nil {
		return 0, err
	}
	a, err := wire.ParseCursorAnswer(b)
	switch {
	case err != nil:
		return 0, err
	case a.Outcome == wire.Made:
		return a.Index, nil
	case a.Outcome == wire.Refused:
		return 0, fmt.Errorf("%w: %s", ErrBadCursor, a.Text)
	}
	return 0, fmt.Errorf("%v: %w", at, errNoLeader)
}
