package transport

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// Group sends the messages of one raft group.
type Group struct {
	t    *TCP
	id   uint64
	h    Handler
	news notices
}

// Send sends messages to the peers they are to, and never blocks: what the kernel takes at once is written before it
// returns, up to 256 KiB for each connection, and the rest is queued. Those that cannot be sent are dropped: no room, not
// connected, unknown peer, not for the wire, larger than Config.MaxFrame. The messages belong to the transport from now on
// and must not change; the slice does not, and their entries may be shared with others who only read them.
func (g *Group) Send(msgs []*raftpb.Message) {
	d := g.t.dir.Load()
	var some [8]*lane
	pushed := some[:0] // lanes that are flushed once, so that what goes together is one write
	for _, m := range msgs {
		lane, ok := laneOf(m.GetType())
		if !ok || m.GetFrom() != g.t.cfg.Self.ID {
			g.t.said.Say(slog.LevelError, lineNotForWire, "", m.GetType().String(), "type", m.GetType(), "from", m.GetFrom())
			continue
		}
		p := d.byID[m.GetTo()]
		if p == nil {
			if lane == PurposeSnapshot {
				g.news.add(notice{what: noticeSnapshot, id: m.GetTo(), m: m, err: fmt.Errorf("transport: no peer with id %x", m.GetTo())})
			}
			continue
		}
		size := messageSize(m)
		limit := g.t.cfg.MaxFrame
		if lane == PurposeControl {
			limit = maxControl
		}
		if size > limit || len(m.GetEntries()) > maxEntries {
			err := fmt.Errorf("transport: %v of %d bytes and %d entries is over the limit", m.GetType(), size, len(m.GetEntries()))
			g.t.said.Say(slog.LevelError, lineTooLarge, p.Name, m.GetType().String(), "peer", p.Name, "err", err)
			switch lane {
			case PurposeSnapshot:
				g.news.add(notice{what: noticeSnapshot, id: p.ID, m: m, err: err})
			case PurposeBulk:
				g.news.add(notice{what: noticeDropped, id: p.ID})
			}
			continue
		}
		if lane == PurposeSnapshot {
			p.snapshots.push(g, m)
			continue
		}
		l := p.bulk
		if lane == PurposeControl {
			l = p.control
		}
		l.push(g, m, int64(size+session.HeaderSize))
		if !slices.Contains(pushed, l) {
			pushed = append(pushed, l)
		}
	}
	for _, control := range []bool{true, false} { // heartbeats first
		for _, l := range pushed {
			if (l.purpose == PurposeControl) == control {
				l.flush()
			}
		}
	}
}

type noticeKind byte

const (
	noticeUnreachable noticeKind = iota
	noticeDropped
	noticeGone
	noticeSnapshot
)

type notice struct {
	what noticeKind
	id   uint64
	at   time.Duration   // of noticeGone
	m    *raftpb.Message // of noticeSnapshot
	err  error
}

// notices hands news to a group's handler from one goroutine, so that Send and the writers call no foreign code, and no group
// waits for another's. What is waiting is at most one of each kind for each peer, snapshots apart: those are answers to calls of Send.
type notices struct {
	wake    chan struct{} // 1: something is pending
	mu      sync.Mutex    // guards pending
	pending []notice
}

func (n *notices) add(one notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if one.what != noticeSnapshot && slices.ContainsFunc(n.pending, func(o notice) bool {
		return o.what == one.what && o.id == one.id
	}) {
		return
	}
	n.pending = append(n.pending, one)
	session.Signal(n.wake)
}

func (n *notices) deliver(h Handler, closing <-chan struct{}) {
	for {
		n.mu.Lock()
		now := n.pending
		n.pending = nil
		n.mu.Unlock()
		for _, one := range now {
			select {
			case <-closing:
				return
			default:
			}
			switch one.what {
			case noticeUnreachable, noticeDropped:
				h.Unreachable(one.id, one.what == noticeDropped)
			case noticeGone:
				h.Gone(one.id, one.at)
			case noticeSnapshot:
				h.SnapshotSent(one.m, one.err)
			}
		}
		select {
		case <-n.wake:
		case <-closing:
			return
		}
	}
}
