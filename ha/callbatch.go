package ha

import (
	"context"
	"sync"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
)

// A callBatch is the calls of one desk that are in one batch of the log. They are answered together, by whoever learns the batch's fate.
type callBatch struct {
	d       *callDesk
	calls   []pendingCall // guarded by the desk's mu
	replies []wire.Reply  // memory for Settled
}

type pendingCall struct {
	tag uint64
	p   log.Pending
}

// callBatches are those of which all calls were answered.
var callBatches = sync.Pool{New: func() any { return new(callBatch) }}

// await has a call answered that was appended, once its fate is known.
func (d *callDesk) await(c pendingCall) {
	d.mu.Lock()
	if b := d.open; b != nil && b.calls[0].p.With(c.p) {
		b.calls = append(b.calls, c)
		d.mu.Unlock()
		return
	}
	b := callBatches.Get().(*callBatch)
	b.d, b.calls = d, append(b.calls, c)
	d.open = b
	d.mu.Unlock()
	if !c.p.Notify(b) {
		b.Settled()
	}
}

// Settled implements [log.Settler].
func (b *callBatch) Settled() {
	d := b.d
	d.mu.Lock()
	if d.open == b { // nobody joins it any more
		d.open = nil
	}
	d.mu.Unlock()
	for _, c := range b.calls {
		r, err := c.p.Wait(context.Background()) // it is known
		reply := wire.Reply{Tag: c.tag, Index: r.Index}
		if len(r.Answers) > 0 {
			reply.Body = r.Answers[0]
		}
		d.n.withError(&reply, err)
		b.replies = append(b.replies, reply)
	}
	d.n.handling.counts.answered(b.replies)
	d.put(b.replies)
	clear(b.calls)
	clear(b.replies)
	b.d, b.calls, b.replies = nil, b.calls[:0], b.replies[:0]
	callBatches.Put(b)
}
