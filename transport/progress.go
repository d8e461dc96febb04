package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/internal/session"
)

// What the kernel has acknowledged may still be in a proxy that passes nothing on, and what a path with a smaller packet size
// drops is not even that, while small messages beside it pass. So the receiver of a control or bulk connection says, on the
// same connection, how many bytes it has taken, and a sender that hears nothing new while something is outstanding closes it.
// A receiver whose handler blocks says so: it is slow, and not a hole.

const (
	problemConnection = "connection"

	takenDelay = 250 * time.Millisecond // from bytes to their acknowledgement, at most five eighths as much again; between two at least those
	takenSize  = 9                      // body of a taken frame
	takenFull  = 1                      // flag: the handler has not come back

	minStuck       = 4 * takenDelay // an answer may be late
	watchTicks     = 8              // looks in the time after which a connection is stuck, at least
	maxLook        = 250 * time.Millisecond
	soundAfter     = 5 // times that time, and a new connection is sound, whatever it has moved
	maxMove        = 1 << 20
	maxStuckPause  = 10 * time.Second
	takenWriteTime = 5 * time.Second
)

// errStuck: what was sent is not taken, and nobody says why.
var errStuck = errors.New("nothing of what was sent is taken: the peer's host may be cut off, a proxy may swallow the connection, " +
	"or large packets may be lost on the way (MTU)")

// taker tells the sender how much its connection has taken, while something is. The reader does so itself where it has just worked and
// it is time soon: the process would be woken once more for it, and so would the sender's.
type taker struct {
	l      *session.Link
	now    *session.NowWriter // nil: it has none
	base   int64              // bytes of the handshake
	busy   atomic.Bool        // the handler has a message and has not come back
	begin  time.Time
	told   atomic.Int64
	at     atomic.Int64 // when it was told, in nanoseconds from begin
	ticker *moment.Ticker

	mu     sync.Mutex // guards writing, and what follows
	closed bool
}

// newTaker begins with what is read from now on. It is called by the connection's reader, which calls end as well.
func newTaker(l *session.Link) *taker {
	t := &taker{l: l, now: session.NewNowWriter(l), begin: time.Now()}
	t.base = l.Count(t.early)
	t.ticker = moment.Every(takenDelay, func() {
		if t.due() {
			go t.tell()
		}
	})
	return t
}

// early is called by the reader before it waits for more.
func (t *taker) early() {
	if t.due() {
		t.tell()
	}
}

// due reports whether there is something to tell, and was told nothing for a while.
func (t *taker) due() bool {
	return (t.taken() != t.told.Load() || t.busy.Load()) && time.Since(t.begin)-time.Duration(t.at.Load()) >= takenDelay/8*5
}

func (t *taker) taken() int64 { return t.l.Total() - t.base }

func (t *taker) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	full, taken := t.busy.Load(), t.taken()
	if taken == t.told.Load() && !full {
		return
	}
	t.told.Store(taken)
	t.at.Store(int64(time.Since(t.begin)))
	body := binary.BigEndian.AppendUint64(nil, uint64(taken))
	if full {
		body = append(body, takenFull)
	} else {
		body = append(body, 0)
	}
	if err := t.write(session.AppendFrame(nil, session.KindTaken, 0, body)); err != nil {
		t.l.Close()
	}
}

// write writes a frame. Nobody else writes to this connection. There is room for it, mostly: then the runtime is not told that the call may block, which
// would wake its monitor.
func (t *taker) write(frame []byte) (err error) {
	if t.now != nil {
		if frame, err = t.now.Write(frame); err != nil || len(frame) == 0 {
			return err
		}
	}
	_ = t.l.SetWriteDeadline(time.Now().Add(takenWriteTime))
	_, err = t.l.Conn.Write(frame)
	return err
}

// end closes the connection and waits for tell.
func (t *taker) end() {
	t.l.Close()
	t.ticker.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// progress is the sender's side: what one connection has been given, and what of it was taken.
type progress struct {
	sent  atomic.Int64 // counted before it is written
	taken atomic.Int64
	full  atomic.Bool // said since the last look
}

// hear takes a frame that came back.
func (p *progress) hear(f session.Frame) error {
	if f.Kind != session.KindTaken || len(f.Body) != takenSize {
		return fmt.Errorf("%w: type %d on a connection that is ours to write", session.ErrFrame, f.Kind)
	}
	p.taken.Store(int64(binary.BigEndian.Uint64(f.Body)))
	if f.Body[8]&takenFull != 0 {
		p.full.Store(true)
	}
	return nil
}

// watch looks at a lane's connection until done, and closes it when it is stuck. Looks are counted instead of time, so that a
// process that was stopped blames nobody. A connection that somebody else ended after it had stood still for a while was stuck, too:
// kernels and firewalls may be quicker.
func (l *lane) watch(conn *session.Link, done <-chan struct{}) (stuck bool) {
	bound := max(2*l.timeout, minStuck)
	look := min(bound/watchTicks, maxLook)
	tick := moment.NewTicker(look)
	defer tick.Stop()
	var last int64
	for quiet, looks := 0, 0; ; looks++ {
		select {
		case <-tick.C:
		case <-done:
			return time.Duration(quiet)*look >= min(bound/2, 2*minStuck)
		}
		sent, taken := l.progress.sent.Load(), l.progress.taken.Load()
		if full := l.progress.full.Swap(false); sent <= taken || taken != last || full {
			quiet, last = 0, taken
		} else if quiet++; time.Duration(quiet)*look > bound {
			l.need = min(sent-taken, maxMove)
			conn.Reset()
			return true
		}
		if l.need > 0 && (taken >= l.need || time.Duration(looks)*look > soundAfter*bound) {
			l.need, l.pause = 0, backoff{}
			l.p.moves(l.purpose)
		}
	}
}

// standstill are the lanes of a peer that were stuck and have not moved since.
type standstill struct {
	mu    sync.Mutex // guards lanes
	lanes map[Purpose]bool
}

// stuck tells of a lane on which nothing moves.
func (p *peer) stuck(lane Purpose) {
	p.still.mu.Lock()
	defer p.still.mu.Unlock()
	if p.still.lanes == nil {
		p.still.lanes = map[Purpose]bool{}
	}
	p.still.lanes[lane] = true
	p.tellStillLocked()
}

// standsStill reports whether a lane is stuck.
func (p *peer) standsStill() bool {
	p.still.mu.Lock()
	defer p.still.mu.Unlock()
	return len(p.still.lanes) > 0
}

// moves takes it back, and is called when a peer is removed.
func (p *peer) moves(lanes ...Purpose) {
	p.still.mu.Lock()
	defer p.still.mu.Unlock()
	before := len(p.still.lanes)
	for _, lane := range lanes {
		delete(p.still.lanes, lane)
	}
	if len(p.still.lanes) < before {
		p.tellStillLocked()
	}
}

func (p *peer) tellStillLocked() {
	var err error
	switch l := p.still.lanes; {
	case l[PurposeControl] && l[PurposeBulk]:
		err = fmt.Errorf("connections to %q: %w", p.Name, errStuck)
	case l[PurposeControl]:
		err = fmt.Errorf("control connection to %q: %w", p.Name, errStuck)
	case l[PurposeBulk]:
		err = fmt.Errorf("bulk connection to %q: %w", p.Name, errStuck)
	}
	p.t.end.Problem(p.Name, problemConnection, err)
}

// segmentSizes are tried in turn where connections get stuck: a path may drop packets above a size that it does not tell. The
// first leaves it to the kernel, the second fits through tunnels, the third through everything (RFC 9293, section 3.7.1).
var segmentSizes = [...]int{0, 1200, 536}

// smaller makes the next dials of the peer try the next size of segments.
func (p *peer) smaller() { p.segments.Add(1) }

// small returns a ctx whose dials use the peer's present size of segments.
func (p *peer) small(ctx context.Context) context.Context {
	return session.WithSegmentSize(ctx, segmentSizes[int(p.segments.Load())%len(segmentSizes)])
}
