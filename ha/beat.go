package ha

import (
	"context"
	"sync"
	"time"
)

// Each commit would wake every tail of this member, and each of those a reader elsewhere: with ten of them, and a thousand commits a second, that
// is most of what they cost, and it is taken from the appends. So tails that have everything share a beat once there are several: who was given
// something waits for the next beat, whether there is more already or not, and then all that was committed meanwhile leaves together. What comes after a
// pause leaves at once, and who was given less than there was does not wait.

const (
	// beatPerReader is how much each reader beside the first adds to the beat.
	beatPerReader = 500 * time.Microsecond
	// longestBeat bounds what it adds to the age of a record.
	longestBeat = 5 * time.Millisecond
)

// beatOf is how long a beat is with so many readers.
func beatOf(readers int) time.Duration {
	return min(time.Duration(max(readers-1, 0))*beatPerReader, longestBeat)
}

// A beat is one tail's place in it.
type beat struct {
	sent time.Duration // when it was given something last
	cut  bool          // that was not all that there was
}

// await returns how long a tail is to wait before it looks for more: until the next beat, if it was given all that there was in this one.
func (b beat) await(now, every time.Duration) (wait time.Duration) {
	if b.cut || every == 0 || now-b.sent >= every {
		return 0
	}
	return every - now%every // the same moment for all
}

// beats wakes all tails that wait for the next beat, by one timer. Its zero value is ready.
type beats struct {
	mu   sync.Mutex    // guards what follows
	next chan struct{} // closed then; nil: nobody waits
}

// after returns what is closed at the next beat, after so much time, unless others wait for one already.
func (b *beats) after(wait time.Duration) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		next := make(chan struct{})
		b.next = next
		time.AfterFunc(wait, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.next = nil
			close(next)
		})
	}
	return b.next
}

// ready waits until the client takes more, and then for the beat.
func (t *tail) ready(ctx context.Context, n *Node) (credit int64, err error) {
	if credit, err = t.st.Ready(); err != nil {
		return 0, err
	}
	if wait := t.beat.await(n.clock(), beatOf(n.clients.tails.readers())); wait > 0 {
		select {
		case <-n.clients.beats.after(wait):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	return credit, nil
}
