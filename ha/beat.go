package ha

import (
	"context"
	"time"
)

// Each commit would wake every tail of this member, and each of those a reader elsewhere: with ten of them, and a thousand commits a second, that
// is most of what they cost, and it is taken from the appends. So tails that have everything share a beat once there are several: what
// is committed within one leaves together. What comes after a pause leaves at once, and who is behind does not wait.

const (
	// beatPerTail is how much each tail beside the first adds to the beat.
	beatPerTail = 500 * time.Microsecond
	// longestBeat bounds what it adds to the age of a record.
	longestBeat = 5 * time.Millisecond
)

// beatOf is how long a beat is with so many tails.
func beatOf(tails int) time.Duration {
	return min(time.Duration(max(tails-1, 0))*beatPerTail, longestBeat)
}

// A beat is one tail's place in it.
type beat struct {
	live bool          // it had everything when it was looked at last
	sent time.Duration // when it was given something last
}

// await returns how long a tail is to wait before it is given what there is: until the next beat, if it has had everything and something
// was given to it in this one. behind: there is something.
func (b *beat) await(now, every time.Duration, behind bool) (wait time.Duration) {
	due := b.live && behind
	if b.live = !behind; !due || every == 0 || now-b.sent >= every {
		return 0
	}
	return every - now%every // the same moment for all
}

// ready waits until the client takes more, and then for the beat.
func (t *tail) ready(ctx context.Context, n *Node) (credit int64, err error) {
	if credit, err = t.st.Ready(); err != nil {
		return 0, err
	}
	index, _ := n.log.Position()
	now := n.clock()
	if wait := t.beat.await(now, beatOf(n.clients.tails.size()), t.sent.Load() < index); wait > 0 {
		late := time.NewTimer(wait)
		defer late.Stop()
		select {
		case <-late.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return credit, nil
}
