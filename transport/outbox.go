package transport

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// ErrSnapshotNotTaken is told to [Handler.SnapshotSent], with the receiver's text, when its ReceiveSnapshot failed.
var ErrSnapshotNotTaken = errors.New("transport: receiver did not take the snapshot")

// ErrSuperseded is told to [Handler.SnapshotSent] when a newer MsgSnap of the same group to the same peer was given to
// Send: raft does that only when it has given up the older one.
var ErrSuperseded = errors.New("transport: a newer snapshot is to be sent")

// outbox sends snapshots to one peer, one at a time. A group has at most one waiting: a newer one takes the place of an
// older one. It ends one that is being sent, unless it is the same snapshot, which a leader wants to be sent in a newer
// term: then what is being sent goes on, and arrives as the newer message. So a transfer that takes longer than a
// leadership is not begun anew for ever.
type outbox struct {
	p       *peer
	wake    chan struct{} // 1: something is waiting
	backoff backoff       // after failures; run's

	mu      sync.Mutex // guards what follows
	waiting []parcel
	sending parcel                  // g is nil when nothing is
	sealed  bool                    // of sending: its end is on its way, with the term that it arrives in
	cancel  context.CancelCauseFunc // of what is being sent
	closed  bool
}

type parcel struct {
	g *Group
	m *raftpb.Message
}

func (o *outbox) push(g *Group, m *raftpb.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		o.fate(parcel{g, m}, ErrClosed)
		return
	}
	if i := slices.IndexFunc(o.waiting, func(w parcel) bool { return w.g == g }); i >= 0 {
		o.fate(o.waiting[i], ErrSuperseded)
		o.waiting = slices.Delete(o.waiting, i, i+1)
	}
	if o.sending.g == g {
		if !o.sealed && sameSnapshot(o.sending.m, m) {
			o.fate(o.sending, ErrSuperseded)
			o.sending.m = m
			return
		}
		if !sameSnapshot(o.sending.m, m) {
			o.cancel(ErrSuperseded)
		}
	}
	o.waiting = append(o.waiting, parcel{g, m})
	session.Signal(o.wake)
}

// fate tells what has become of a parcel, from another goroutine.
func (o *outbox) fate(p parcel, err error) {
	p.g.news.add(notice{what: noticeSnapshot, id: o.p.ID, m: p.m, err: err})
}

func sameSnapshot(a, b *raftpb.Message) bool {
	x, y := a.GetSnapshot(), b.GetSnapshot()
	return x.GetMetadata().GetIndex() == y.GetMetadata().GetIndex() && x.GetMetadata().GetTerm() == y.GetMetadata().GetTerm() &&
		bytes.Equal(x.GetData(), y.GetData())
}

// latest returns the message that is being sent, as which it arrives.
func (o *outbox) latest() *raftpb.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sending.m
}

// unseal lets what is being sent be sent again, and reports whether its end was on its way.
func (o *outbox) unseal() (ended bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ended, o.sealed = o.sealed, false
	return ended
}

// seal returns the term in which what is being sent arrives.
func (o *outbox) seal() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed = true
	return o.sending.m.GetTerm()
}

// next takes the next parcel. The ctx is that of sending it. Without one, last says that there will be no more.
func (o *outbox) next(ctx context.Context) (p parcel, sctx context.Context, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		o.closed = ctx.Err() != nil
		return parcel{}, nil, o.closed
	}
	p = o.waiting[0]
	o.waiting = slices.Delete(o.waiting, 0, 1)
	o.sending, o.sealed = p, false
	sctx, o.cancel = context.WithCancelCause(ctx)
	return p, sctx, false
}

// sent ends the sending of a parcel and returns it, as the one that it has become.
func (o *outbox) sent() parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.sending
	o.sending = parcel{}
	o.cancel(nil)
	return p
}

// run sends what is waiting until ctx ends, and then answers for what still waits.
func (o *outbox) run(ctx context.Context) {
	for {
		next, sctx, last := o.next(ctx)
		if last {
			return
		}
		if next.g == nil {
			select {
			case <-o.wake:
			case <-ctx.Done():
			}
			continue
		}
		err := o.send(sctx, next)
		if cause := context.Cause(sctx); err != nil && cause != nil {
			err = cause
		}
		if ctx.Err() != nil {
			err = ErrClosed
		}
		next = o.sent()
		o.p.counts.end(err)
		o.pause(ctx, err)
		next.g.h.SnapshotSent(next.m, err)
	}
}

// pause waits after a failure before it is told, since the answer is another snapshot.
func (o *outbox) pause(ctx context.Context, err error) {
	if err == nil || errors.Is(err, ErrSuperseded) {
		o.backoff = backoff{}
		return
	}
	cfg := &o.p.t.cfg
	lo := cfg.Backoff
	if errors.Is(err, ErrRefused) {
		lo = cfg.MaxBackoff
	}
	select {
	case <-time.After(o.backoff.next(lo, max(lo, cfg.MaxBackoff))):
	case <-ctx.Done():
	}
}
