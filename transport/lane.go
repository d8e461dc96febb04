package transport

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	controlBytes = 1 << 20                // bound of a control queue
	controlKeep  = 8                      // control messages that wait for a connection
	controlStale = 100 * time.Millisecond // older ones are not sent when it comes
	controlWrite = time.Second            // longest WriteTimeout of a control connection

	writeSize = 128 << 10 // bytes gathered for one write

	refusedBackoff    = time.Second
	maxRefusedBackoff = 5 * time.Second
)

// lane is one outgoing connection of a peer, control or bulk, and the queue before it.
//
// Hand-over: push adds to the queue and puts a token into wake; the writer takes the whole queue, writes it, and then
// calls release. bytes falls only there, so that it bounds what is queued and what is being written together.
type lane struct {
	p       *peer
	purpose Purpose
	limit   int64
	timeout time.Duration
	wake    chan struct{} // 1: something is queued
	redial  chan struct{} // 1: the peer is there, end the pause

	mu    sync.Mutex // guards what follows
	queue []queued
	bytes int64 // of queue, and of what is being written
	up    bool
	told  []*Group // were told of an overflow since the writer last took the queue
}

type queued struct {
	group uint64
	m     *raftpb.Message
	size  int64
	at    time.Time // only of control messages that wait for a connection
}

func newLane(p *peer, purpose Purpose) *lane {
	l := &lane{p: p, purpose: purpose, wake: make(chan struct{}, 1), redial: make(chan struct{}, 1)}
	l.limit, l.timeout = p.t.cfg.QueueBytes, p.t.cfg.WriteTimeout
	if purpose == PurposeControl {
		l.limit, l.timeout = controlBytes, min(controlWrite, l.timeout)
	}
	return l
}

func (l *lane) push(g *Group, m *raftpb.Message, size int64) {
	q := queued{group: g.id, m: m, size: size}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.purpose == PurposeControl {
		if !l.up {
			// A TimeoutNow forces votes past the lease, so it is worth nothing once it is late.
			if m.GetType() == raftpb.MsgTimeoutNow {
				return
			}
			q.at = time.Now()
			if len(l.queue) == controlKeep {
				l.dropOldestLocked()
			}
		}
		for len(l.queue) > 0 && l.bytes+size > l.limit {
			l.dropOldestLocked()
		}
	}
	if l.bytes > 0 && l.bytes+size > l.limit {
		if l.purpose == PurposeBulk && !slices.Contains(l.told, g) {
			l.told = append(l.told, g)
			l.p.t.inbox.add(notice{g: g, what: noticeUnreachable, id: l.p.ID})
		}
		return
	}
	l.queue = append(l.queue, q)
	l.bytes += size
	signal(l.wake)
}

func (l *lane) dropOldestLocked() {
	l.bytes -= l.queue[0].size
	l.queue = slices.Delete(l.queue, 0, 1)
}

// take returns all that is queued; spare is memory for the next queue.
func (l *lane) take(spare []queued) []queued {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.queue
	l.queue = spare[:0]
	if len(now) > 0 {
		l.told = nil
	}
	return now
}

func (l *lane) release(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= bytes
}

func (l *lane) setUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = true
	if l.purpose == PurposeControl {
		l.queue = slices.DeleteFunc(l.queue, func(q queued) bool {
			old := time.Since(q.at) > controlStale
			if old {
				l.bytes -= q.size
			}
			return old
		})
	}
}

// setDown drops everything: what follows a gap is of no use.
func (l *lane) setDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.queue, l.bytes, l.told = false, nil, 0, nil
}

// run dials, writes until the connection ends, and again.
func (l *lane) run(ctx context.Context) {
	cfg := &l.p.t.cfg
	logger := cfg.Logger.With("peer", l.p.Name, "connection", l.purpose.String())
	var pause, refusals backoff
	said := "" // the failure that was logged last; the same one is logged once
	for ctx.Err() == nil {
		conn, err := l.p.t.dial(ctx, l.p.Peer, l.purpose)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			if text := err.Error(); text != said {
				said = text
				logger.Warn("cannot connect", "error", err)
			}
			var r *RefusedError
			if errors.As(err, &r) {
				l.p.t.refused(r)
				l.wait(ctx, refusals.next(refusedBackoff, maxRefusedBackoff))
			} else {
				l.wait(ctx, pause.next(cfg.Backoff, cfg.MaxBackoff))
			}
			continue
		}
		said = ""
		logger.Debug("connected", "addr", conn.raw.RemoteAddr())
		since := time.Now()
		l.p.attached(conn)
		l.setUp()
		err = l.serve(ctx, conn)
		l.setDown()
		if ctx.Err() != nil {
			return
		}
		if l.purpose == PurposeBulk {
			l.p.t.unreachable(l.p.ID)
		}
		if hungUp(err) {
			l.p.ended(ctx)
		}
		logger.Info("connection lost", "error", err)
		refusals = backoff{}
		if time.Since(since) > cfg.MaxBackoff {
			pause = backoff{}
		} else {
			// Admitted and dropped at once, again and again: that must not become a storm.
			l.wait(ctx, pause.next(cfg.Backoff, cfg.MaxBackoff))
		}
	}
}

func (l *lane) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.redial:
	case <-ctx.Done():
	}
}

// serve writes to the connection until it ends, closes it, and returns the reason.
func (l *lane) serve(ctx context.Context, conn *link) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	setUserTimeout(conn.raw, 2*l.timeout)

	// Nothing comes back on this connection: reading is for seeing its end.
	ended := make(chan error, 1)
	go func() {
		var b [1]byte
		_, err := conn.Read(b[:])
		if err == nil {
			err = errors.New("peer sent something on a connection that is ours to write")
		}
		conn.Close() // ends a write that is stuck
		ended <- err
	}()

	err, finished := l.write(conn, ended)
	conn.Close()
	if !finished {
		// The write failed first. If that was because the peer hung up, the reader knows it too.
		if rerr := <-ended; !hungUp(err) && hungUp(rerr) {
			err = rerr
		}
	}
	return err
}

// write is the writer's loop. finished: the error is that of the ended channel.
func (l *lane) write(conn *link, ended <-chan error) (err error, finished bool) {
	var (
		buf   []byte
		batch []queued
	)
	for {
		batch = l.take(batch)
		if len(batch) == 0 {
			select {
			case <-l.wake:
				continue
			case err := <-ended:
				return err, true
			}
		}
		var bytes int64
		for i := range batch {
			q := &batch[i]
			var err error
			if buf, err = appendMessage(buf, kindMessage, q.group, nil, q.m); err != nil {
				return err, false
			}
			bytes += q.size
			*q = queued{}
			if len(buf) < writeSize && i < len(batch)-1 {
				continue
			}
			if err := conn.write(buf, l.timeout); err != nil {
				return err, false
			}
			l.release(bytes)
			bytes = 0
			if buf = buf[:0]; cap(buf) > keepBuffer {
				buf = nil
			}
		}
	}
}

// hungUp says whether err is the other side's end of the connection, and not ours, a timeout, or a damaged frame.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

type backoff struct{ d time.Duration }

// next returns the next pause: doubling from lo to hi, of which up to a half is taken off at random.
func (b *backoff) next(lo, hi time.Duration) time.Duration {
	b.d = min(max(2*b.d, lo), hi)
	return b.d - time.Duration(rand.Int64N(int64(b.d)/2+1))
}
