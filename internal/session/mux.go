package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/moment"
)

// The frames of streams. Their id is the stream's: 1, 2, 3 … in the order in which the dialler opens them; the listener opens
// none. A stream may be sent FirstWindow bytes at first, and more when its reader gives credit.
//
//	open    the kind, 1 … 64 bytes of printable ASCII without spaces; by the dialler
//	data    1 byte … 16 KiB
//	sealed  1 byte … 256 KiB, likewise data, without a checksum of the frame: it has one of its own
//	fin     nothing: no more data from this side
//	reset   uint16 code, then text of at most 1 KiB: the stream is over in both directions
//	credit  uint32 bytes that may be sent besides
//	ping    nothing, id 0: answered with pong
//	pong    nothing, id 0
//
// What comes for a stream that is over is skipped. Anything else that is not as it should be ends the session.
const (
	// FirstWindow is what may be sent on a stream before its reader has read anything, in bytes. It is part of the protocol.
	FirstWindow = 8 << 10

	maxChunk      = 16 << 10
	maxKind       = 64
	maxStreamText = 1 << 10
	maxCredit     = 1 << 40

	// outBytes is how much waits for the writer at most before streams wait for it, one after the other; outHard is where a
	// session ends whose other side asks for answers and does not read them.
	outBytes = 128 << 10
	outHard  = 2 << 20

	quietLooks = 4 // looks without a sign of life after which a session is dead
)

// ErrLost is wrapped by the error of every stream whose session has ended without a word about it. What was sent may have
// arrived, or not.
var ErrLost = errors.New("session lost")

// ErrClosed is the end of a session that this side has closed.
var ErrClosed = errors.New("session closed")

var errSilent = errors.New("no sign of life from the other side, though it was asked")

// Handler serves one stream that the other side has opened. ctx ends when the stream does, with the reason as its cause. What
// it returns ends the stream: nil as [Stream.Close], a *StreamError with its code and text, another error with StreamFailed
// and its text. It must return when ctx ends. A panic is the stream's, and logged.
type Handler func(ctx context.Context, st *Stream) error

// Mux carries the streams of one session. Its methods may be called from any goroutine.
//
// Two goroutines are its own: the reader, which never waits for anything but the connection, and the writer. Streams put their
// frames into out, and wait in a queue, each for its turn, while that is full. Who has written then writes all of out at once where that
// cannot block, and leaves what the kernel does not take, or all with TLS, to the writer. Credit, pings and pongs go before out.
//
// Invariant: one at a time writes to the connection: who has set busy, the writer as long as there is a rest.
//
// Invariant: while the queue is not empty, out is not either, or somebody has been given a turn who has not used it: the
// writer gives turns whenever it takes out, and who does not use a turn passes it on.
type Mux struct {
	l       *Link
	c       StreamConfig
	dialled bool
	heard   atomic.Uint64 // frames
	now     *NowWriter    // nil: all is the writer's
	wake    chan struct{} // 1: there is work for the writer
	done    chan struct{} // closed when err is set
	wg      sync.WaitGroup

	mu      sync.Mutex // guards what follows; taken after a stream's
	streams map[uint64]*Stream
	serving int    // handlers that have not returned
	last    uint64 // the newest stream's id
	out     []byte
	tail    int    // where the last frame in out begins, if it is data and may still grow; -1: none
	tailID  uint64 // whose that is
	queue   []chan struct{}
	credits []*Stream // have something to grant
	busy    bool      // somebody writes
	first   []byte    // memory of who writes, as spare is
	spare   []byte
	rest    []byte // what the kernel did not take of what is in their memory
	heads   []byte // memory of who writes sealed frames, as pieces is
	pieces  net.Buffers
	failed  error // of a write that was not the writer's
	ping    bool
	pong    bool
	closing bool
	err     error
}

// NewMux starts the streams of a session whose handshake is done. dialled says that it is ours to open them. The link is the
// mux's from now on. Close must be called, also when the session has ended.
func NewMux(l *Link, dialled bool, c StreamConfig) *Mux {
	m := &Mux{
		l: l, c: c.withDefaults(), dialled: dialled, tail: -1,
		wake: make(chan struct{}, 1), done: make(chan struct{}), streams: map[uint64]*Stream{}, now: NewNowWriter(l),
	}
	m.wg.Go(m.read)
	m.wg.Go(m.write)
	return m
}

// Peer is what the other side has said of itself.
func (m *Mux) Peer() Hello { return m.l.Peer }

// Done is closed when the session has ended.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Alive says that the session has not ended and is not being closed.
func (m *Mux) Alive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err == nil && !m.closing
}

// Err says why the session has ended; nil: it has not.
func (m *Mux) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Streams is how many streams the session has now.
func (m *Mux) Streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

// Close ends all streams, tells the other side so as far as it takes that within half a second, ends the session, and waits
// for its goroutines, handlers too. It may be called again.
func (m *Mux) Close() error {
	m.mu.Lock()
	first := !m.closing
	m.closing = true
	all := m.allLocked()
	m.mu.Unlock()
	if first {
		for _, st := range all {
			st.end(&StreamError{Code: StreamClosed, Text: "the session is closed"}, true)
		}
		Signal(m.wake)
	}
	late := time.AfterFunc(lingerTime, func() { m.end(ErrClosed) })
	defer late.Stop()
	m.wg.Wait()
	return nil
}

func (m *Mux) allLocked() []*Stream {
	all := make([]*Stream, 0, len(m.streams))
	for _, st := range m.streams {
		all = append(all, st)
	}
	return all
}

// end ends the session at once.
func (m *Mux) end(err error) {
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = err
	if m.closing {
		m.err = ErrClosed
	}
	all := m.allLocked()
	m.out, m.tail, m.credits = nil, -1, nil
	close(m.done)
	m.mu.Unlock()
	m.l.Close()
	for _, st := range all {
		st.lost(fmt.Errorf("%w: %w", ErrLost, err))
	}
}

// Open opens a stream of a kind, and does not wait for the other side: that it is refused is the error of the first Read or
// Recv. ctx is the whole stream's: when it ends, so does the stream, on both sides. The stream must be closed. Open waits
// while much is to be written; it fails with a *StreamError of code StreamBusy when there are too many, with ctx's cause, or
// with the error that has ended the session.
func (m *Mux) Open(ctx context.Context, kind string) (*Stream, error) {
	if !m.dialled {
		return nil, errors.New("session: only the side that has dialled opens streams")
	}
	if !ValidKind(kind) {
		return nil, fmt.Errorf("session: %q is no kind of streams", kind)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if !m.c.Budget.take(FirstWindow) {
		return nil, &StreamError{Code: StreamBusy, Text: "no room is left for what another stream would bring"}
	}
	st := newStream(ctx, m, kind)
	err := m.room(st.turn, ctx.Done())
	if err == errOver {
		err = context.Cause(ctx)
	} else {
		switch {
		case m.err != nil:
			err = fmt.Errorf("%w: %w", ErrLost, m.err)
		case m.closing:
			err = ErrClosed
		case len(m.streams) >= m.c.MaxStreams:
			err = &StreamError{Code: StreamBusy, Text: fmt.Sprintf("this session has %d streams", len(m.streams))}
		default:
			m.last++
			st.id = m.last
			m.streams[st.id] = st
			m.appendLocked(KindOpen, st.id, []byte(kind))
			m.c.Counts.Opened.Add(1)
		}
		if err != nil {
			m.turnsLocked(1)
		}
		m.mu.Unlock()
	}
	if err != nil {
		st.drop(err)
		return nil, err
	}
	st.follow(ctx)
	return st, nil
}

// ValidKind says whether streams may be of that kind: 1 to 64 bytes of printable ASCII without spaces.
func ValidKind(kind string) bool {
	if kind == "" || len(kind) > maxKind {
		return false
	}
	for _, c := range []byte(kind) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// room waits until there is room in out, and returns with mu held, or with an error when over is closed before.
func (m *Mux) room(turn chan struct{}, over <-chan struct{}) error {
	m.mu.Lock()
	if len(m.queue) == 0 && len(m.out) >= outBytes {
		m.pushLocked() // what is there may be of those who have not come to the end of what they write
	}
	if m.err != nil || len(m.queue) == 0 && len(m.out) < outBytes {
		return nil
	}
	m.queue = append(m.queue, turn)
	m.mu.Unlock()
	select {
	case <-turn:
		m.mu.Lock()
		return nil
	case <-m.done:
		m.mu.Lock()
		return nil
	case <-over:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.queue, turn); i >= 0 {
		m.queue = slices.Delete(m.queue, i, i+1)
	} else {
		m.turnsLocked(1)
	}
	return errOver
}

// turnsLocked lets the first n of the queue go on.
func (m *Mux) turnsLocked(n int) {
	n = min(n, len(m.queue))
	for _, turn := range m.queue[:n] {
		Signal(turn)
	}
	m.queue = slices.Delete(m.queue, 0, n)
}

// appendLocked puts a frame into out, whether there is room or not.
func (m *Mux) appendLocked(k Kind, id uint64, body []byte) {
	m.sealLocked()
	m.out = AppendFrame(m.out, k, id, body)
	m.grownLocked()
}

// dataLocked puts data into out, into the last frame if that is the stream's and has room.
func (m *Mux) dataLocked(id uint64, p []byte) {
	if m.tail < 0 || m.tailID != id || len(m.out)-m.tail+len(p) > HeaderSize+maxChunk {
		m.sealLocked()
		m.tail, m.tailID = len(m.out), id
		m.out = append(m.out, make([]byte, HeaderSize)...)
	}
	m.out = append(m.out, p...)
	m.c.Counts.Sent.Add(uint64(len(p)))
}

func (m *Mux) sealLocked() {
	if m.tail >= 0 {
		SealFrame(m.out[m.tail:], KindData, m.tailID)
		m.tail = -1
	}
}

func (m *Mux) grownLocked() {
	if len(m.out) > outHard {
		// Not from here: end takes the locks of streams.
		m.out, m.tail = m.out[:0], -1
		m.wg.Go(func() { m.end(errors.New("the other side asks for answers and does not read them")) })
	}
	Signal(m.wake)
}

// takeLocked returns what is to be written: first what is urgent, and then out.
func (m *Mux) takeLocked() (first, out []byte) {
	first = m.first[:0]
	for _, st := range m.credits {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(st.grant))
		first = AppendFrame(first, KindCredit, st.id, b[:])
		st.grant = 0
	}
	clear(m.credits)
	m.credits = m.credits[:0]
	if m.pong {
		first = AppendFrame(first, KindPong, 0, nil)
	}
	if m.ping {
		first = AppendFrame(first, KindPing, 0, nil)
	}
	m.ping, m.pong = false, false
	m.sealLocked()
	out = m.out
	m.out = m.spare[:0]
	m.turnsLocked(outBytes / maxChunk)
	if len(out) < maxChunk { // one write for both
		first, out = append(first, out...), out[:0]
	}
	m.first, m.spare = first, out
	if cap(out) > 2*outBytes {
		m.spare = nil
	}
	return first, out
}

// pushLocked sees to it that out is written: it does that itself where it cannot block. It gives mu up meanwhile.
func (m *Mux) pushLocked() {
	if m.busy {
		return // who writes looks again
	}
	if m.now == nil || m.failed != nil || len(m.rest) > 0 {
		Signal(m.wake)
		return
	}
	m.busy = true
	first, out := m.takeLocked()
	m.mu.Unlock()
	rest, err := first, error(nil)
	if len(first) > 0 {
		rest, err = m.now.Write(first)
	}
	if len(rest) > 0 {
		rest = append(rest, out...)
	} else if err == nil && len(out) > 0 {
		rest, err = m.now.Write(out)
	}
	m.mu.Lock()
	m.busy, m.failed = false, err
	if len(rest) > 0 {
		m.rest, m.first, m.spare = rest, nil, nil
	}
	if err != nil || len(rest) > 0 || m.waitsLocked() {
		Signal(m.wake)
	}
}

// waitsLocked says that there is something to be written.
func (m *Mux) waitsLocked() bool {
	return len(m.out) > 0 || len(m.credits) > 0 || m.ping || m.pong || m.closing
}

// beginLocked gives the writer what it is to write: nothing while somebody else writes, who wakes it where something is left.
func (m *Mux) beginLocked() (pieces [3][]byte, n int, err error) {
	if m.busy || m.failed != nil {
		return pieces, 0, m.failed
	}
	pieces[0] = m.rest
	pieces[1], pieces[2] = m.takeLocked()
	m.rest = nil
	for _, b := range pieces {
		n += len(b)
	}
	m.busy = n > 0
	return pieces, n, nil
}

// write is the writer.
func (m *Mux) write() {
	tick := moment.NewTicker(m.c.Ping)
	defer tick.Stop()
	var heard uint64
	for quiet := 0; ; {
		m.mu.Lock()
		pieces, n, err := m.beginLocked()
		closing := m.closing && !m.busy
		m.mu.Unlock()
		for i := 0; i < len(pieces) && err == nil; i++ {
			err = m.l.Send(pieces[i], m.c.WriteTimeout)
		}
		if err != nil {
			m.end(err)
			return
		}
		if n > 0 {
			m.mu.Lock()
			m.busy = false
			m.mu.Unlock()
			continue
		}
		if closing {
			// The end of what we write; the reader waits for theirs, and Close for both.
			if c, ok := m.l.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
				<-m.done
			}
			m.end(ErrClosed)
			return
		}
		select {
		case <-m.wake:
			runtime.Gosched() // those run first who were woken together with who woke it, and have something to write, too
		case <-tick.C:
			// Looks are counted instead of time, so that a process that was stopped blames nobody.
			if now := m.heard.Load(); now != heard {
				heard, quiet = now, 0
			} else if quiet++; quiet >= quietLooks {
				m.end(errSilent)
			} else {
				m.mu.Lock()
				m.ping = true
				if !m.busy { // an idle session holds no memory that it does not need
					m.first, m.spare, m.heads, m.pieces = nil, nil, nil, nil
				}
				m.mu.Unlock()
			}
		case <-m.done:
			return
		}
	}
}
