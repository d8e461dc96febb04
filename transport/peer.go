package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

const keepRetired = 16 // instances of a peer that are remembered

// peer is a member we talk to: its outgoing lanes, and the connections that came from it.
type peer struct {
	Peer
	t         *TCP
	control   *lane
	bulk      *lane
	snapshots *outbox
	calls     *calls
	still     standstill
	segments  atomic.Uint32 // how often another size of segments was wanted
	taking    chan struct{} // 1: a token while a snapshot from it is received
	counts    snapshotCounts

	sending, receiving atomic.Pointer[journey] // of snapshots; nil: none

	cancel  context.CancelFunc // nil before the start; guarded by TCP.mu
	parting atomic.Bool        // it is no member any more
	left    chan struct{}      // 1: a connection from it has ended

	mu       sync.Mutex // guards what follows
	removed  bool
	live     map[Purpose]*session.Link // newest connection from it
	instance uint64                    // the process that is connected
	retired  []uint64                  // processes that it replaced, oldest first
	addr     string                    // where we last reached it, resolved
	reached  uint64                    // the process that was there
	session  int                       // grows whenever a connection in either direction is established
	checking bool                      // a check for crash evidence is under way
	again    bool                      // something ended during the check
	gone     bool                      // Gone was told in this session
}

func newPeer(t *TCP, p Peer) *peer {
	q := &peer{Peer: p, t: t, taking: make(chan struct{}, 1), left: make(chan struct{}, 1), live: map[Purpose]*session.Link{}}
	q.control, q.bulk = newLane(q, PurposeControl), newLane(q, PurposeBulk)
	q.snapshots = &outbox{p: q, wake: make(chan struct{}, 1)}
	q.calls = newCalls(q)
	return q
}

// startLocked starts the peer's goroutines, once. TCP.mu is held.
func (p *peer) startLocked(ctx context.Context) {
	if p.cancel != nil {
		return
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.t.wg.Go(func() { p.control.run(ctx) })
	p.t.wg.Go(func() { p.bulk.run(ctx) })
	p.t.wg.Go(func() { p.snapshots.run(ctx) })
	p.t.wg.Go(func() { p.calls.run(ctx) })
}

// remove ends everything of the peer, which is no member any more if parting. TCP.mu is held.
func (p *peer) remove(parting bool) {
	p.parting.Store(parting) // before anything ends
	if p.cancel == nil {
		p.cancel = func() {}
		close(p.calls.end) // its goroutine never starts
	}
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed = true
	p.moves(PurposeControl, PurposeBulk)
	for purpose, l := range p.live {
		if purpose != PurposeStream { // that ends in peace
			l.Close()
		}
	}
}

// admit makes l the connection of its purpose from the peer, in place of an older one. If another process of the peer's name is connected it
// asks which of them is the peer, which may take half of HandshakeTimeout.
func (p *peer) admit(ctx context.Context, l *session.Link) *RefusedError {
	r, rivals := p.enter(l, nil)
	if rivals {
		r, _ = p.enter(l, p.find(ctx))
	}
	return r
}

// enter is admit with what is known of where the peer is, nil before that was asked: rivals says that it must be.
func (p *peer) enter(l *session.Link, at *whereabouts) (r *RefusedError, rivals bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	refuse := func(c Code, why string) (*RefusedError, bool) {
		return &RefusedError{Peer: p.Name, Code: c, Local: true, Text: why}, false
	}
	if p.removed {
		return refuse(CodeUnknownMember, "no longer a member")
	}
	if came := l.Peer.Instance; came != p.instance {
		two := fmt.Sprintf("two processes named %q connect to %q, and ", p.Name, p.t.cfg.Self.Name)
		switch {
		case len(p.live) == 0:
		case at == nil:
			return nil, true
		case at.instance == came:
		case at.instance != 0:
			return refuse(CodeDuplicate, two+"the other one is at "+p.Addr)
		case at.silent:
			return refuse(CodeNotNow, two+"who is at "+p.Addr+" does not say in time which it is")
		case slices.Contains(p.retired, came):
			return refuse(CodeDuplicate, two+"the other one came later")
		}
		if p.instance != 0 {
			p.retired = append(p.retired, p.instance)
			p.retired = p.retired[max(0, len(p.retired)-keepRetired):]
		}
		p.instance = came
		for purpose, old := range p.live {
			old.Close()
			delete(p.live, purpose)
		}
	}
	if old := p.live[l.Peer.Purpose]; old != nil {
		old.Close()
	}
	if l.Peer.Purpose == PurposeControl || l.Peer.Purpose == PurposeBulk {
		l.ResetUnless(p.last)
	}
	p.live[l.Peer.Purpose] = l
	p.session++
	p.gone = false
	// It lives, so a lane that pauses before the next dial need not.
	for _, lane := range []*lane{p.control, p.bulk} {
		lane.mu.Lock()
		if !lane.up {
			session.Signal(lane.redial)
		}
		lane.mu.Unlock()
	}
	return nil, false
}

// forget undoes admit, and says whether l had not been replaced.
func (p *peer) forget(l *session.Link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live[l.Peer.Purpose] != l {
		return false
	}
	delete(p.live, l.Peer.Purpose)
	session.Signal(p.left)
	return !p.removed
}

// attached notes that a connection to the peer was established, and reports whether the peer was said to be gone.
func (p *peer) attached(l *session.Link) (back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr, p.reached = l.Raw.RemoteAddr().String(), l.Peer.Instance
	p.session++
	p.gone = false
	return p.t.said.Over(lineGone, p.Name)
}

// A peer that starts, or is back at once, needs no line, and one that is said to be gone none soon. What somebody has to mend is said
// at once.
const (
	sayUnreachable = time.Second
	sayStillGone   = time.Minute
)

// parted reports whether the peer has said that it leaves.
func (p *peer) parted() bool { return p.t.cfg.Parted != nil && p.t.cfg.Parted(p.Name) }

// sessions is how often the peer was reached.
func (p *peer) sessions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

// worthSaying reports whether the log is to tell of an error by which the peer cannot be reached, for so long, and which variant it is. sessions
// is how often it had been reached when that was tried: where it was reached since, the error is late.
func (p *peer) worthSaying(err error, since time.Duration, sessions int) (text string, say bool) {
	var r *RefusedError
	var cause *session.CauseError
	switch {
	case p.t.toldOf(err), p.t.cfg.Awaited != nil && p.t.cfg.Awaited():
		return "", false
	case errors.As(err, &r):
		say := r.Local || r.Code != CodeRemoved && (r.Code != CodeUnknownMember || since >= sayUnreachable)
		return session.RefusalText(r), say // of a removal the program is told, and says what it does; and who is added is not known to all at once
	case errors.As(err, &cause) && cause.Kind != session.CauseEnded && cause.Kind != session.CauseElsewhere:
		return session.StableText(err), true
	}
	known := p.standsStill() || p.parted()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.session != sessions:
		return "", false
	case p.gone || known: // which was said
		return "", since >= sayStillGone
	}
	return "", since >= sayUnreachable
}

func (p *peer) status() PeerStatus {
	s := PeerStatus{Peer: p.Peer}
	for _, l := range []*lane{p.control, p.bulk} {
		l.mu.Lock()
		s.Queued += l.bytes
		if l.purpose == PurposeControl {
			s.Control = l.up
		} else {
			s.Bulk = l.up
		}
		l.mu.Unlock()
	}
	p.mu.Lock()
	s.Inbound = len(p.live)
	p.mu.Unlock()
	return s
}
