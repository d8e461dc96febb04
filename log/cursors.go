package log

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// problemCursor: the log does not reach back to readers that have a cursor.
const problemCursor = "cursor"

const (
	// gatherMoves is how long moves of cursors are gathered before they go into the log together, so that readers that save often
	// cost the records nothing.
	gatherMoves = 10 * time.Millisecond
	// againMoves is after how long a move that is not in force is asked for again: what carried it was lost.
	againMoves = 500 * time.Millisecond
)

// moves are those of cursors that are to be asked for.
type moves struct {
	mu      sync.Mutex // guards pending
	pending map[string]core.CursorMove
}

// add adds a move, and lets post ask for all that have come together.
func (m *moves) add(move core.CursorMove, post func(core.MoveCursors)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		m.pending = make(map[string]core.CursorMove)
		time.AfterFunc(gatherMoves, func() { post(m.take()) })
	}
	if old, ok := m.pending[move.Name]; ok && !old.Drop && !move.Drop {
		move.Index = max(move.Index, old.Index)
	}
	m.pending[move.Name] = move
}

func (m *moves) take() (all core.MoveCursors) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, move := range m.pending {
		all.Moves = append(all.Moves, move)
	}
	m.pending = nil
	return all
}

// Cursors returns those of all readers that have a name, by name, as of what is committed here. It must not be changed.
func (l *Log) Cursors() []Cursor {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	return l.store.pos.Cursors
}

// MoveCursor moves a cursor forward, or drops it, and returns once that is committed here. This member must lead: else nothing comes
// of it. A cursor never goes back. Errors that match [ErrTooManyCursors] and [ErrBadCursor] mean that it does not move; [ErrUnknown] with the
// cause of ctx, or ErrClosed, leave it open.
func (l *Log) MoveCursor(ctx context.Context, move CursorMove) error {
	for {
		pos, changed, stopped := l.store.view()
		_, known := pos.Cursor(move.Name)
		switch {
		case pos.Done(move):
			return nil
		case stopped != nil:
			return fmt.Errorf("%w: %w", ErrUnknown, ErrClosed)
		case move.Index > pos.Index && !move.Drop:
			return fmt.Errorf("%w: record %d is wanted, %d is the last", ErrBadCursor, move.Index, pos.Index)
		case !known && len(pos.Cursors) >= core.MaxCursors:
			return ErrTooManyCursors
		}
		l.moves.add(move, func(all core.MoveCursors) { l.Post(all) })
		again := time.NewTimer(againMoves)
		for waits := true; waits; {
			select {
			case <-changed:
				if pos, changed, stopped = l.store.view(); pos.Done(move) || stopped != nil {
					waits = false
				}
			case <-again.C:
				waits = false
			case <-ctx.Done():
				again.Stop()
				return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
			}
		}
		again.Stop()
	}
}

// view returns how far the log is committed, a channel that is closed when that changes, and why it will not.
func (w *Store) view() (core.Position, <-chan struct{}, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.pos, w.changeLocked(), w.err
}

// waitedForLocked reports whether a reader with a cursor may still need what is cut off at a candidate, so many bytes behind the end.
func (c *Checkpointer) waitedForLocked(p cutPoint, behind int64) bool {
	if c.scarce || behind > c.retain+c.CursorBytes {
		return false
	}
	first := c.store.oldest().Index // who needs it is lost already
	for _, cursor := range c.last.pos.Cursors {
		if cursor.Index < p.base.Index && cursor.Index >= first {
			return true
		}
	}
	return false
}

// judgeCursors says which readers have lost their place, or that none has any more.
func (l *Log) judgeCursors() {
	first := l.store.oldest().Index + 1
	var lost []string
	for _, c := range l.Cursors() {
		if c.Index+1 < first {
			lost = append(lost, fmt.Sprintf("%s needs record %d", c.Name, c.Index+1))
		}
	}
	p := Problem{Kind: problemCursor}
	if len(lost) > 0 {
		p.Err = fmt.Errorf("the log begins with record %d here, and does not reach back to readers that have taken nothing for too long: %s",
			first, strings.Join(lost[:min(len(lost), maxLost)], ", "))
	}
	l.Post(p)
}

// maxLost bounds how many readers are named.
const maxLost = 8
