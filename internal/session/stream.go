package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Stream is a conversation within a session: bytes, or messages, in both directions, in order. At most one goroutine may read
// and one may write at a time; the other methods may be called from any goroutine, at any time.
//
// What was written has arrived only when the other side says so in what it writes: an end that is not in peace may cut off what
// is on its way. What has arrived can be read although the stream has ended since.
type Stream struct {
	m     *Mux
	id    uint64
	kind  string
	ctx   context.Context
	stop  context.CancelCauseFunc // of ctx
	left  func() bool             // stops following the opener's ctx
	turn  chan struct{}           // 1: it may put something into the mux's out
	over  chan struct{}           // closed with err: nothing can be written any more
	lazy  bool                    // what is written is left to the mux's writer; of who writes
	sent  atomic.Uint64           // bytes
	grant int64                   // credit that is to be told; guarded by Mux.mu
	told  bool                    // its end is in the mux's out, so nothing may follow; likewise

	readable chan struct{} // 1: there may be something to read
	writable chan struct{} // 1: there may be credit

	mu     sync.Mutex       // guards what follows; Mux.mu may be taken under it
	credit int64            // what may be sent
	shut   bool             // the end was written
	in     ring             // what has come
	asm    *assembly        // what has come instead, if messages are put together as they come
	taker  func([]byte) int // is given what comes before it waits to be read; of who is in Await
	taking bool             // it is at work, without mu
	allow  int64            // what may still come
	free   int64            // what was read and is not granted again
	window int64            // all of it; what we have of the budget
	since  time.Time        // when what is not granted again began to come; zero: nothing has, or the window grows no more
	ended  bool             // the end has come
	err    error            // the end of the stream otherwise
	deaf   bool             // nobody reads any more
	gone   bool             // it has left the mux
}

// soon is the part of the time between two pings in which half of a window must be read for it to grow: so what is on its way comes in about one.
const soon = 4

func newStream(ctx context.Context, m *Mux, kind string) *Stream {
	st := &Stream{
		m: m, kind: kind, turn: make(chan struct{}, 1), over: make(chan struct{}),
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
		credit: FirstWindow, allow: FirstWindow, window: FirstWindow,
	}
	st.ctx, st.stop = context.WithCancelCause(ctx)
	return st
}

// follow ends the stream with ctx.
func (st *Stream) follow(ctx context.Context) {
	left := context.AfterFunc(ctx, func() {
		code := StreamCancelled
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			code = StreamDeadline
		}
		st.end(&ctxError{StreamError{Code: code}, context.Cause(ctx)}, true)
	})
	st.mu.Lock()
	defer st.mu.Unlock()
	st.left = left
	if st.gone {
		left()
	}
}

// ctxError is the end of a stream by its ctx.
type ctxError struct {
	StreamError
	cause error
}

func (e *ctxError) Error() string   { return e.cause.Error() }
func (e *ctxError) Unwrap() []error { return []error{&e.StreamError, e.cause} }

// Kind is what it was opened as.
func (st *Stream) Kind() string { return st.kind }

// Peer is what the other side of the session has said of itself.
func (st *Stream) Peer() Hello { return st.m.l.Peer }

// Remote is the address of the other side of the session.
func (st *Stream) Remote() net.Addr { return st.m.l.Raw.RemoteAddr() }

// Context ends when the stream does, in whatever way; its cause says why.
func (st *Stream) Context() context.Context { return st.ctx }

// Read reads what the other side has written, as io.Reader. io.EOF is its end in peace; other errors are a *StreamError, the
// cause of the ctx, or wrap ErrLost.
func (st *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		st.mu.Lock()
		n := st.in.read(p)
		if n > 0 {
			st.takenLocked(n)
			st.returnLocked()
			st.mu.Unlock()
			return n, nil
		}
		err := st.overLocked(true)
		st.mu.Unlock()
		if err != nil {
			return 0, err
		}
		<-st.readable
	}
}

// overLocked is why nothing more comes to be read; nil: it may. between says that no message has come in part.
func (st *Stream) overLocked(between bool) error {
	switch {
	case !st.ended || st.deaf:
		return st.err
	case between:
		return io.EOF
	default:
		return io.ErrUnexpectedEOF
	}
}

// grantLocked gives the other side credit once half of the window was read, and a larger window as long as there is room and it is needed: where that
// half was read soon after it began to come. On a slow path, and of a slow reader, what is on its way would else stand before everything else of the
// session for long: before a pong for so long that the session is taken for dead.
func (st *Stream) grantLocked() {
	if st.ended || st.err != nil || st.free < st.window/2 {
		return
	}
	grant := st.free
	if wider := min(2*st.window, int64(st.m.c.Window)) - st.window; wider > 0 {
		now := time.Now()
		if now.Sub(st.since) < st.m.c.Ping/soon && st.m.c.Budget.take(wider) {
			st.window += wider
			grant += wider
		}
		if st.since = now; st.allow+grant == st.window {
			st.since = time.Time{}
		}
	}
	st.free = 0
	st.allow += grant
	m := st.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if st.grant == 0 {
		m.credits = append(m.credits, st)
	}
	st.grant += grant
	Signal(m.wake)
}

// Recv reads one message of at most limit bytes, which is the caller's. It is not allocated before its bytes come. io.EOF only
// comes between messages. A larger message ends the stream with StreamTooLarge. Other errors are those of Read.
func (st *Stream) Recv(limit int) ([]byte, error) {
	if st.asm != nil {
		return st.recvAssembled(limit)
	}
	var head [prefixSize]byte
	if _, err := io.ReadFull(st, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return nil, st.tooLarge(uint64(n), limit)
	}
	var msg []byte
	for len(msg) < int(n) {
		at := len(msg)
		to := min(int(n), max(2*at, FirstPiece))
		if to > cap(msg) {
			msg = append(make([]byte, 0, to), msg...)
		}
		msg = msg[:to]
		if _, err := io.ReadFull(st, msg[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return msg, nil
}

// FirstPiece is how much of a message is allocated before a byte of it has come: what is not larger is allocated once.
const FirstPiece = 65 << 10

// tooLarge ends the stream because of the size of a message.
func (st *Stream) tooLarge(size uint64, limit int) error {
	err := &StreamError{Code: StreamTooLarge, Text: fmt.Sprintf("message of %d bytes, the limit is %d", size, limit)}
	st.end(err, true)
	return err
}

// takenLocked notes that so many bytes were read.
func (st *Stream) takenLocked(n int) {
	st.free += int64(n)
	st.grantLocked()
}

// CloseWrite says that nothing more will be written. It does not wait, and may be called again.
func (st *Stream) CloseWrite() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.shut || st.err != nil {
		return nil
	}
	st.shut = true
	Signal(st.writable)
	st.tellLocked(KindFin, nil)
	st.settleLocked()
	return nil
}

// Close ends both directions: what was written is followed by the end, and the other side is told to write no more if it has
// not come to its end. What has come and was not read is thrown away. It does not wait, and may be called again.
func (st *Stream) Close() error {
	_ = st.CloseWrite()
	st.end(errStreamLocal, true)
	return nil
}

// Reset ends both directions with a code and a text: the other side reads what has come, and then a *StreamError of these.
func (st *Stream) Reset(code StreamCode, text string) {
	st.end(&StreamError{Code: code, Text: text}, true)
}

// streamEnd is an error that can be told to the other side.
type streamEnd interface {
	error
	body() []byte
}

// end ends the stream from our side. What has come is thrown away.
func (st *Stream) end(why streamEnd, tell bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.in, st.deaf = ring{}, true
	if st.asm != nil {
		*st.asm = assembly{}
	}
	if st.err == nil {
		st.err = why
		// After both ends there is nobody to be told.
		if tell && !st.gone && !(st.shut && st.ended) {
			st.tellLocked(KindReset, why.body())
		}
		close(st.over)
	}
	st.settleLocked()
}

// lost ends the stream from the other side, or with the session. What has come can still be read. Of a stream that is gone, st is
// nil.
func (st *Stream) lost(err error) {
	if st == nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err == nil {
		st.err = err
		close(st.over)
	}
	st.settleLocked()
}

// drop ends a stream that was never opened.
func (st *Stream) drop(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gone = true
	st.m.c.Budget.give(st.window)
	st.window = 0
	st.stop(err)
}

// tellLocked puts a frame behind what was written. It is one of few for each stream, so it waits for no room.
func (st *Stream) tellLocked(k Kind, body []byte) {
	st.m.mu.Lock()
	defer st.m.mu.Unlock()
	if st.m.err == nil {
		st.m.appendLocked(k, st.id, body)
	}
	st.told = true
}

// settleLocked does what is due when the stream has ended: no frames are for it any more, and once all is read, or nobody
// reads, nothing of the budget.
func (st *Stream) settleLocked() {
	Signal(st.readable)
	if st.err == nil && !(st.shut && st.ended) {
		return
	}
	if !st.gone {
		st.gone = true
		st.m.mu.Lock()
		delete(st.m.streams, st.id)
		st.m.mu.Unlock()
		if st.left != nil {
			st.left()
		}
		st.stop(st.err)
	}
	st.returnLocked()
}

// returnLocked returns what the stream has of the budget, once it has left the mux and nothing waits to be read.
func (st *Stream) returnLocked() {
	if st.gone && st.window > 0 && st.in.n == 0 && (st.asm == nil || len(st.asm.whole) == 0) {
		st.m.c.Budget.give(st.window)
		st.window, st.in = 0, ring{}
	}
}

// data takes what the other side has written.
func (st *Stream) data(body []byte) error {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.comesLocked(len(body)); err != nil || st.err != nil {
		return err
	}
	st.putLocked(body)
	return nil
}

// comesLocked takes note of what comes, if anybody still reads.
func (st *Stream) comesLocked(n int) error {
	if st.ended {
		return fmt.Errorf("%w: data of stream %d behind its end", ErrFrame, st.id)
	}
	if st.err != nil {
		return nil
	}
	if st.allow -= int64(n); st.allow < 0 {
		return fmt.Errorf("%w: stream %d is sent %d bytes more than it takes", ErrFrame, st.id, -st.allow)
	}
	if st.since.IsZero() && st.window < int64(st.m.c.Window) {
		st.since = time.Now()
	}
	st.m.c.Counts.Received.Add(uint64(n))
	return nil
}

// putLocked puts what has come where it is wanted, or where it waits to be read.
func (st *Stream) putLocked(body []byte) {
	if st.asm != nil {
		st.assembleLocked(body)
		return
	}
	if body = st.offerLocked(body); len(body) > 0 {
		st.in.write(body, int(st.window))
		Signal(st.readable)
	}
}

// fin takes the other side's end.
func (st *Stream) fin() error {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return fmt.Errorf("%w: stream %d ends twice", ErrFrame, st.id)
	}
	st.ended = true
	st.settleLocked()
	return nil
}

// more takes credit.
func (st *Stream) more(n uint32) error {
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.credit += int64(n); n == 0 || st.credit > maxCredit {
		return fmt.Errorf("%w: credit of %d bytes for stream %d, which has %d", ErrFrame, n, st.id, st.credit)
	}
	Signal(st.writable)
	return nil
}
