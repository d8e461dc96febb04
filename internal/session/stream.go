package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// StreamCode is why a stream has ended before its time, as it is on the wire. Numbers below FirstOwnCode are this package's and
// never used again; the others are for those who use streams.
type StreamCode uint16

// The codes of this package. After StreamNoKind, StreamForbidden and StreamBusy from the other side nobody has seen the stream.
const (
	StreamCancelled StreamCode = 1 // whoever had it does not want any more; also the end of a stream that was closed early
	StreamDeadline  StreamCode = 2 // its ctx had a deadline
	StreamNoKind    StreamCode = 3 // nobody serves its kind
	StreamForbidden StreamCode = 4 // not for this role
	StreamBusy      StreamCode = 5 // too many streams, or too much that waits to be read
	StreamFailed    StreamCode = 6 // what served it failed
	StreamClosed    StreamCode = 7 // the session is closed
	StreamTooLarge  StreamCode = 8 // a message was larger than its reader takes

	FirstOwnCode StreamCode = 64
)

func (c StreamCode) String() string {
	names := [...]string{"code 0", "cancelled", "deadline exceeded", "no such kind", "forbidden", "busy", "failed", "closed", "too large"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// StreamError is the end of a stream that was not closed in peace. It matches, with errors.Is, another *StreamError of the
// same code, and context.Canceled and context.DeadlineExceeded by theirs.
type StreamError struct {
	Code   StreamCode
	Text   string // for people; at most 1 KiB of it is told to the other side
	Remote bool   // the other side has ended it
}

func (e *StreamError) Error() string {
	by := "stream ended"
	if e.Remote {
		by = "stream ended by the other side"
	}
	if e.Text == "" {
		return fmt.Sprintf("%s: %v", by, e.Code)
	}
	return fmt.Sprintf("%s: %v: %s", by, e.Code, e.Text)
}

// Is matches by the code.
func (e *StreamError) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == StreamCancelled
	case context.DeadlineExceeded:
		return e.Code == StreamDeadline
	}
	t, ok := target.(*StreamError)
	return ok && t.Code == e.Code
}

func (e *StreamError) body() []byte {
	return AppendCoded(nil, uint16(e.Code), e.Text[:min(len(e.Text), maxStreamText)])
}

var (
	errOver        = errors.New("stream is over") // of whoever waits: the stream's own error says why
	errStreamShut  = errors.New("session: write on a stream whose end was written")
	errStreamLocal = &StreamError{Code: StreamCancelled, Text: "it was closed"}
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
	grant int64                   // credit that is to be told; guarded by Mux.mu
	told  bool                    // its end is in the mux's out, so nothing may follow; likewise

	readable chan struct{} // 1: there may be something to read
	writable chan struct{} // 1: there may be credit

	mu     sync.Mutex // guards what follows; Mux.mu may be taken under it
	credit int64      // what may be sent
	shut   bool       // the end was written
	in     ring       // what has come
	into   []byte     // where what comes goes instead, until it is full; in is empty then
	allow  int64      // what may still come
	free   int64      // what was read and is not granted again
	window int64      // all of it; what we have of the budget
	ended  bool       // the end has come
	err    error      // the end of the stream otherwise
	deaf   bool       // nobody reads any more
	gone   bool       // it has left the mux
}

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
			st.settleLocked()
			st.mu.Unlock()
			return n, nil
		}
		err := st.err
		if st.ended && !st.deaf {
			err = io.EOF
		}
		st.mu.Unlock()
		if err != nil {
			return 0, err
		}
		<-st.readable
	}
}

// grantLocked gives the other side credit once half of the window was read, and a larger window as long as there is room.
func (st *Stream) grantLocked() {
	if st.ended || st.err != nil || st.free < st.window/2 {
		return
	}
	grant := st.free
	if wider := min(2*st.window, int64(st.m.c.Window)) - st.window; wider > 0 && st.m.c.Budget.take(wider) {
		st.window += wider
		grant += wider
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

// Write writes all of p, as io.Writer; it waits while the other side does not read, or the connection is full. Errors are those of
// Read.
func (st *Stream) Write(p []byte) (int, error) { return st.write(nil, p) }

// write writes head and p, and returns how much of p.
func (st *Stream) write(head, p []byte) (int, error) {
	written := 0
	for len(head)+len(p) > 0 {
		n, left, err := st.claim(min(len(head)+len(p), maxChunk))
		if err == nil {
			err = st.m.room(st.turn, st.over)
		}
		if err == errOver {
			st.mu.Lock()
			err = st.err
			st.mu.Unlock()
		}
		if err != nil {
			return written, err
		}
		h := min(n, len(head))
		if st.m.err == nil && !st.told {
			if h > 0 {
				st.m.dataLocked(st.id, head[:h])
			}
			if n > h {
				st.m.dataLocked(st.id, p[:n-h])
			}
		} else {
			st.m.turnsLocked(1)
		}
		head, p, written = head[h:], p[n-h:], written+n-h
		switch {
		case st.lazy:
			Signal(st.m.wake)
		case len(head)+len(p) == 0 || left == 0:
			st.m.pushLocked()
		}
		st.m.mu.Unlock()
	}
	return written, nil
}

// Together has what is written from now on leave together with what is written to other streams of the session at the same moment, for who
// has many of them to write to. It is to be called by who writes.
func (st *Stream) Together() { st.lazy = true }

// TryWrite writes as much of p as needs no waiting, and returns how much that is. What is left is to be written with Write, by whoever may
// write. Errors are those of Write.
func (st *Stream) TryWrite(p []byte) (written int, err error) {
	n, _, err := st.take(len(p))
	m := st.m
	m.mu.Lock()
	if m.err == nil && !st.told && len(m.queue) == 0 { // else Write says what it is, or waits behind others
		for written < n && len(m.out) < outBytes {
			some := min(n-written, maxChunk)
			m.dataLocked(st.id, p[written:][:some])
			written += some
		}
		m.pushLocked()
	}
	m.mu.Unlock()
	if written < n {
		st.mu.Lock()
		st.credit += int64(n - written)
		st.mu.Unlock()
	}
	return written, err
}

// take takes up to want of the credit, and returns how much is left.
func (st *Stream) take(want int) (n int, left int64, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.err != nil:
		return 0, 0, st.err
	case st.shut:
		return 0, 0, errStreamShut
	}
	n = int(min(int64(want), st.credit))
	st.credit -= int64(n)
	return n, st.credit, nil
}

// claim is take that waits until there is some.
func (st *Stream) claim(want int) (n int, left int64, err error) {
	for {
		if n, left, err = st.take(want); n > 0 || err != nil {
			return n, left, err
		}
		select {
		case <-st.writable:
		case <-st.over:
		}
	}
}

// Ready waits until something can be written without waiting for the other side to read, and returns how many bytes, or until the
// stream is over, and then returns its error. It is for whoever writes: what is to be written need not be made before, and not be
// held meanwhile.
func (st *Stream) Ready() (credit int64, err error) {
	for {
		st.mu.Lock()
		credit, err := st.credit, st.err
		if err == nil && st.shut {
			err = errStreamShut
		}
		st.mu.Unlock()
		if err != nil || credit > 0 {
			return credit, err
		}
		select {
		case <-st.writable:
		case <-st.over:
		}
	}
}

const prefixSize = 4

// Send writes one message, of any size below 4 GiB, for [Stream.Recv]: its length as uint32, and its bytes. msg is the
// caller's again when it returns.
func (st *Stream) Send(msg []byte) error {
	if uint64(len(msg)) > 1<<32-1 {
		return fmt.Errorf("session: message of %d bytes", len(msg))
	}
	var head [prefixSize]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(msg)))
	_, err := st.write(head[:], msg)
	return err
}

// Recv reads one message of at most limit bytes, which is the caller's. It is not allocated before its bytes come. io.EOF only
// comes between messages. A larger message ends the stream with StreamTooLarge. Other errors are those of Read.
func (st *Stream) Recv(limit int) ([]byte, error) {
	var head [prefixSize]byte
	if err := st.fill(head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		err := &StreamError{Code: StreamTooLarge, Text: fmt.Sprintf("message of %d bytes, the limit is %d", n, limit)}
		st.end(err, true)
		return nil, err
	}
	var msg []byte
	for len(msg) < int(n) {
		at := len(msg)
		to := min(int(n), max(2*at, FirstPiece))
		if to > cap(msg) {
			msg = append(make([]byte, 0, to), msg...)
		}
		msg = msg[:to]
		if err := st.fill(msg[at:]); err != nil {
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

// fill reads all of p. What comes is put there by who reads the connection, and whoever waits for it is woken once. Its error
// is io.EOF only before the first byte.
func (st *Stream) fill(p []byte) error {
	st.mu.Lock()
	for at := 0; ; {
		if n := st.in.read(p[at:]); n > 0 {
			at += n
			st.takenLocked(n)
			st.settleLocked()
		}
		err := st.err
		if st.ended && !st.deaf {
			err = io.EOF
		}
		if at == len(p) || err != nil {
			st.mu.Unlock()
			switch {
			case at == len(p):
				return nil
			case err == io.EOF && at > 0:
				return io.ErrUnexpectedEOF
			}
			return err
		}
		st.into = p[at:]
		st.mu.Unlock()
		<-st.readable
		st.mu.Lock()
		at, st.into = len(p)-len(st.into), nil
	}
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
	if st.in.n == 0 && st.window > 0 {
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
	if st.ended {
		return fmt.Errorf("%w: data of stream %d behind its end", ErrFrame, st.id)
	}
	if st.err != nil {
		return nil
	}
	if st.allow -= int64(len(body)); st.allow < 0 {
		return fmt.Errorf("%w: stream %d is sent %d bytes more than it takes", ErrFrame, st.id, -st.allow)
	}
	st.m.c.Counts.Received.Add(uint64(len(body)))
	if n := copy(st.into, body); n > 0 {
		st.into, body = st.into[n:], body[n:]
		st.takenLocked(n)
		if len(st.into) > 0 {
			return nil
		}
	}
	if len(body) > 0 {
		st.in.write(body, int(st.window))
	}
	Signal(st.readable)
	return nil
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
