package transport

import (
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	controlBytes = 1 << 20                // bound of a control queue
	controlKeep  = 8                      // control messages that wait for a connection
	controlStale = 100 * time.Millisecond // older ones are not sent when it comes
	controlWrite = time.Second            // longest WriteTimeout of a control connection

	// inlineSize is the most that Send itself writes: to encode, sum and copy it into the kernel takes about as long as
	// waking the writer twice, and raft's loop waits for it.
	inlineSize = 256 << 10
)

// lane is one outgoing connection of a peer, control or bulk, and the queue before it.
//
// Hand-over: push adds to the queue, and flush then writes it where that cannot block. Otherwise flush puts a token into
// wake; the writer takes all there is and is busy until it comes back for more. bytes falls only when something has been
// written, so that it bounds what is queued and what is being written together.
//
// Invariant: one at a time writes to the connection: the writer while busy, and else flush, under mu. What the kernel did
// not take of flush's bytes is the rest, which the writer writes before it takes from the queue; until then nobody else
// writes.
type lane struct {
	p       *peer
	purpose Purpose
	limit   int64
	timeout time.Duration
	wake    chan struct{} // 1: there is work for the writer
	redial  chan struct{} // 1: the peer is there, end the pause

	train  train  // of the one who may write; rest is part of it
	number uint16 // of the next frame; likewise

	progress progress
	need     int64   // to be taken before a lane that was stuck moves again; of run and watch, which take turns
	pause    backoff // after it was stuck; likewise

	mu     sync.Mutex // guards what follows
	queue  []queued
	rest   []byte // begun by flush
	bytes  int64  // of queue and rest, and of what is being written
	up     bool
	busy   bool      // the writer has taken something
	inline nowWriter // what flush writes to; nil: not connected, TLS, or failed
	failed error     // of flush; ends the connection
	told   []*Group  // were told of an overflow since the queue last moved
	counts laneCounts
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
				l.counts.dropped.add(1, size)
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
		l.counts.dropped.add(1, size)
		if l.purpose == PurposeBulk && !slices.Contains(l.told, g) {
			l.told = append(l.told, g)
			g.news.add(notice{what: noticeDropped, id: l.p.ID})
		}
		return
	}
	l.queue = append(l.queue, q)
	l.bytes += size
}

func (l *lane) dropOldestLocked() {
	l.bytes -= l.queue[0].size
	l.counts.dropped.add(1, l.queue[0].size)
	l.queue = slices.Delete(l.queue, 0, 1)
}

// flush sends what was pushed: at once if that cannot block and overtakes nothing, and else by waking the writer.
func (l *lane) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return
	}
	if l.inline == nil || l.busy || len(l.rest) > 0 || l.bytes > inlineSize {
		if l.counts.waiting.IsZero() {
			l.counts.waiting = time.Now()
		}
		session.Signal(l.wake)
		return
	}
	frames := len(l.queue)
	l.train.empty()
	l.train.apart = false
	var err error
	for i := range l.queue {
		q := &l.queue[i]
		if err == nil {
			err = l.append(q)
		}
		*q = queued{}
	}
	l.queue, l.told = l.queue[:0], nil
	b := l.train.b
	if err == nil {
		l.counts.sent.add(frames, int64(len(b)))
		l.progress.sent.Add(int64(len(b)))
		b, err = l.inline.Write(b)
	} else {
		l.counts.dropped.add(frames, l.bytes)
	}
	if err != nil {
		l.failed, l.inline = err, nil
	}
	l.rest, l.bytes = b, int64(len(b))
	if err != nil || len(b) > 0 {
		session.Signal(l.wake)
	}
}

// append encodes a message as the next frame of the connection.
func (l *lane) append(q *queued) error {
	err := l.train.add(q.group, l.number, q.m)
	if err == nil {
		l.number++
	}
	return err
}

// take returns what the writer is to write: the rest, and then the queue. If there is nothing, flush may write from now
// on. spare is memory for the next queue. The error is that of flush.
func (l *lane) take(spare []queued) (rest []byte, queue []queued, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest, queue = l.rest, l.queue
	l.rest, l.queue = nil, spare[:0]
	l.busy = len(rest) > 0 || len(queue) > 0
	if len(queue) > 0 {
		l.told = nil
		if since := l.counts.waiting; !since.IsZero() {
			l.counts.waiting = time.Time{}
			l.counts.waited.Observe(int64(time.Since(since)))
		}
	}
	return rest, queue, l.failed
}

// release makes room for what was written. frames is 0 for a rest, which was counted when it was begun.
func (l *lane) release(frames int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= bytes
	if frames > 0 {
		l.counts.sent.add(frames, bytes)
	}
}

// setUp begins a connection. Without inline all is left to the writer.
func (l *lane) setUp(inline nowWriter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.inline, l.number = true, inline, 0
	l.progress.sent.Store(0)
	l.progress.taken.Store(0)
	if l.purpose == PurposeControl {
		l.queue = slices.DeleteFunc(l.queue, func(q queued) bool {
			old := time.Since(q.at) > controlStale
			if old {
				l.bytes -= q.size
				l.counts.dropped.add(1, q.size)
			}
			return old
		})
	}
}

// setDown drops everything: what follows a gap is of no use.
func (l *lane) setDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range l.queue {
		l.counts.dropped.add(1, q.size)
	}
	l.queue, l.rest, l.bytes, l.told = nil, nil, 0, nil
	l.counts.since, l.counts.conn, l.counts.waiting = time.Time{}, nil, time.Time{}
	l.up, l.busy, l.inline, l.failed = false, false, nil, nil
	l.train.empty()
}

// A nowWriter writes what can be written without waiting.
type nowWriter interface {
	Write(b []byte) (rest []byte, err error)
}

// inlineOf returns that of a connection, or nil.
func inlineOf(l *session.Link) nowWriter {
	if w := session.NewNowWriter(l); w != nil {
		return w
	}
	return nil
}
