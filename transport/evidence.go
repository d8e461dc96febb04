package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// Crash evidence: that a member's process has ended, as its host says it.
//
// A refused dial alone says so little: the address may be another host's by now, or a firewall may answer. So may a reset: whoever gets
// a segment of a connection that he does not know answers with one. But only the kernel that holds a connection can end it in
// order, with a FIN that has the right number, and it does so when the process ends, however it ends. A process that goes on
// never does: it resets the connections to members that it has to end. So a FIN is the mark of an end, by the host whose
// process has proved in the handshake who it is, and the refused dial of the address at which that very process was reached
// confirms it. A process that is killed with input that it has not read resets those connections, too; there are four to
// each peer, and on two of them next to nothing comes in.
//
// What ends TCP connections on the way and makes others, as a proxy does, can still say all of this of a process that lives.

const (
	// evidenceTries and evidenceWait: a dying process may close our connection before its listener. A dial in between is
	// taken by the kernel and ended at once, and is tried again, some times without a pause; a dial that stays open for the wait is
	// a live listener.
	evidenceTries = 8
	evidenceQuick = 3
	evidencePause = time.Millisecond
	evidenceWait  = 20 * time.Millisecond
	evidenceAgain = 5 * time.Millisecond // later it is taken again
)

// ownEnd is the error of a connection that the other side's own kernel has ended, in order.
type ownEnd struct{ error }

func (e *ownEnd) Unwrap() error { return e.error }

// heardEnd is the error of reading from l, with whether the other side's kernel has ended it. It must be called before l is closed.
func heardEnd(l *session.Link, err error) error {
	if session.HungUp(err) && l.Finished() {
		return &ownEnd{err}
	}
	return err
}

// last says whether this process may end connections to the peer as one that has ended does: since it gives up all roles, or the peer
// is no member, whom nobody asks.
func (p *peer) last() bool {
	select {
	case <-p.t.closing:
		return true
	default:
		return p.parting.Load()
	}
}

// ended is called when an established connection, in either direction, was ended by the other side. One check serves all
// that end together; one that ends during the check starts it again.
func (p *peer) ended(ctx context.Context, l *session.Link, err error) {
	var own *ownEnd
	if !p.t.cfg.CrashEvidence || !errors.As(err, &own) {
		return
	}
	p.mu.Lock()
	// Without a connection of our own to this process there is no address that is known to be its own.
	if l.Peer.Instance != p.reached {
		p.mu.Unlock()
		return
	}
	p.again = true
	start := !p.gone && !p.checking
	p.checking = p.checking || start
	p.mu.Unlock() // before spawn, which takes TCP.mu: that comes before p.mu
	if start {
		p.t.spawn(func() { p.check(ctx) })
	}
}

func (p *peer) check(ctx context.Context) {
	for {
		p.mu.Lock()
		if !p.again || p.gone || ctx.Err() != nil {
			p.checking = false
			p.mu.Unlock()
			return
		}
		p.again = false
		addr, session := p.addr, p.session
		p.mu.Unlock()

		groups := p.t.dir.Load().groups
		at := make(map[uint64]time.Duration, len(groups))
		look := func() {
			for id, g := range groups {
				at[id] = g.h.Now()
			}
		}
		if !nobodyListens(ctx, p.t.end.DialTCP, addr, p.t.cfg.DialTimeout, look) {
			continue
		}
		p.mu.Lock()
		p.gone = p.session == session
		tell := p.gone
		p.mu.Unlock()
		if tell {
			if !p.parted() {
				p.t.said.Say(slog.LevelWarn, lineGone, p.Name, "", "peer", p.Name, "addr", addr)
			}
			p.tellGone(groups, at)
			// The last words of the dead process may still be in our sockets, and be heard only now, as if it had been alive
			// after the dial. So the evidence is taken again when they were read, and once more when they must have been heard.
			again := func() {
				if nobodyListens(ctx, p.t.end.DialTCP, addr, p.t.cfg.DialTimeout, look) {
					p.tellGone(groups, at)
				}
			}
			soon, cancel := context.WithTimeout(ctx, evidenceAgain)
			p.silent(soon)
			cancel()
			again()
			wait(ctx, nil, evidenceAgain)
			again()
		}
	}
}

// silent waits until all that came from the peer was read, and no connection from it is left.
func (p *peer) silent(ctx context.Context) {
	for {
		p.mu.Lock()
		left := len(p.live)
		p.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-p.left:
		case <-ctx.Done():
			return
		}
	}
}

// tellGone tells all groups that the peer's process is gone, unless it has come back.
func (p *peer) tellGone(groups map[uint64]*Group, at map[uint64]time.Duration) {
	p.mu.Lock()
	gone := p.gone
	p.mu.Unlock()
	if !gone {
		return
	}
	for id, g := range groups {
		g.news.add(notice{what: noticeGone, id: p.ID, at: at[id]})
	}
}

// nobodyListens says whether the host of addr answers that no process listens there. It calls before ahead of each dial.
func nobodyListens(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), addr string, timeout time.Duration, before func()) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for try := range evidenceTries {
		if try >= evidenceQuick {
			wait(ctx, nil, evidencePause)
		}
		before()
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		_ = conn.SetReadDeadline(time.Now().Add(evidenceWait))
		var b [1]byte
		_, err = conn.Read(b[:])
		conn.Close()
		if !session.HungUp(err) {
			return false
		}
	}
	return false
}
