package core

import (
	"fmt"
	"time"
)

// Within an epoch the indexes of a member's batches are its own and dense: nobody else's batch of that epoch counts. So when the
// next epoch starts, the fate of each of them is known (G3), also to a member that lost the leadership in between: those
// below the first index of the next epoch are in the log, even where this member has seen it only in a snapshot, and the
// others never will be.

// A fate is what becomes of the batches of this member.
type fate struct {
	next uint64   // index that the next proposed record gets
	open []*Batch // proposed, fate unknown, in log order
}

// propose takes note of a batch that raft has taken.
func (f *fate) propose(now time.Duration, b *Batch) {
	f.next = b.First + uint64(b.Count)
	b.proposed = now
	f.open = append(f.open, b)
}

// committed returns the batch of this member that is committed and counts, if it is one: then it is the oldest open one.
func (f *fate) committed(h Header) *Batch {
	if len(f.open) == 0 || f.open[0].Epoch != h.Epoch || f.open[0].First != h.First {
		return nil
	}
	return f.shut()
}

// over takes the oldest open batch whose epoch is over, and returns it with its fate: nil, [ErrFenced] or, where the history does not
// reach back, [ErrUnknown]. It returns nil when there is none.
func (f *fate) over(history []Epoch) (*Batch, error) {
	if len(f.open) == 0 {
		return nil, nil
	}
	b := f.open[0]
	next, over := after(history, b.Epoch)
	if !over {
		return nil, nil
	}
	f.shut()
	switch {
	case b.First >= next.First:
		return b, ErrFenced
	case next.Epoch == b.Epoch+1:
		return b, nil
	}
	return b, fmt.Errorf("%w: epoch %d is no longer in the history", ErrUnknown, b.Epoch)
}

// shut takes the oldest open batch away.
func (f *fate) shut() *Batch {
	b := f.open[0]
	f.open[0], f.open = nil, f.open[1:]
	return b
}
