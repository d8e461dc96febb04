package core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
)

// A reader of the log that has a name may keep how far it has come where the log is: then it goes on from there, on whichever member,
// and the log is not cut behind it, up to a limit. Such cursors are replicated state, as the members are: were they each member's own,
// a reader that goes on elsewhere would find no cursor there, and no log.

// A Cursor is how far a reader has come: it has done with all records up to Index.
type Cursor struct {
	Name  string `codec:"n"`
	Index uint64 `codec:"i"`
}

// A CursorMove moves a cursor forward, which makes it if there is none, or drops it.
type CursorMove struct {
	Cursor
	Drop bool `codec:"d,omitempty"`
}

// MaxCursors is how many there can be.
const MaxCursors = 256

// ErrTooManyCursors says that there are [MaxCursors] already.
var ErrTooManyCursors = errors.New("baton: there are too many cursors")

// MoveCursors asks the leader to move cursors. What becomes of it shows in the [Position]; an entry that is lost says nothing, and may
// be asked for again.
type MoveCursors struct{ Moves []CursorMove }

func (MoveCursors) event() {}

// Mail implements [Mail].
func (MoveCursors) Mail() {}

// moveCursors proposes to move cursors.
func (c *Core) moveCursors(ev MoveCursors) {
	if c.state == raft.StateLeader && c.lease.transferring == 0 {
		_ = c.node.Propose(encodeMsgpack([]byte{kindCursors}, ev.Moves)) // lost is lost
	}
}

// moveCursors moves over an entry that moves cursors. A move that does not fit changes nothing: a cursor never goes back, nor beyond
// the last record, and there are never too many.
func (p *Position) moveCursors(data []byte) error {
	var moves []CursorMove
	if err := decodeMsgpack(data[1:], &moves); err != nil {
		return fmt.Errorf("raft entry %d: %w", p.Raft, err)
	}
	p.Cursors = slices.Clone(p.Cursors) // copies of the position share it
	for _, m := range moves {
		i, ok := p.cursor(m.Name)
		switch {
		case m.Drop && ok:
			p.Cursors = slices.Delete(p.Cursors, i, i+1)
		case m.Drop, m.Name == "", len(m.Name) > maxText, m.Index > p.Index:
		case ok:
			p.Cursors[i].Index = max(p.Cursors[i].Index, m.Index)
		case len(p.Cursors) < MaxCursors:
			p.Cursors = slices.Insert(p.Cursors, i, m.Cursor)
		}
	}
	return nil
}

// cursor finds a cursor, or where it would be.
func (p *Position) cursor(name string) (at int, ok bool) {
	return slices.BinarySearchFunc(p.Cursors, name, func(c Cursor, name string) int { return cmp.Compare(c.Name, name) })
}

// Cursor returns the cursor of a name.
func (p *Position) Cursor(name string) (Cursor, bool) {
	i, ok := p.cursor(name)
	if !ok {
		return Cursor{}, false
	}
	return p.Cursors[i], true
}

// Done reports whether nothing is left to be done of a move.
func (p *Position) Done(m CursorMove) bool {
	c, ok := p.Cursor(m.Name)
	return ok != m.Drop && c.Index >= m.Index
}
