package wire

import (
	"bytes"
	"runtime"
	"sync"
)

// A CallStream is what a line of calls is made of.
type CallStream interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	TryWrite(p []byte) (int, error) // what can be written without waiting
	Close() error
}

// An outbox gathers messages of any number of goroutines and writes all that have come meanwhile at once. Who puts something writes it where
// nobody writes yet and that need not wait; what cannot be written so is left to run.
//
// Invariant: one at a time writes: whoever has set busy, who clears it when nothing is left, or leaves it set for run together with a token in wake.
type outbox struct {
	st   CallStream
	wake chan struct{} // size 1: a token says that run is to write

	mu    sync.Mutex // guards everything below
	room  sync.Cond  // less waits than before, or nothing will be written any more
	b     []byte
	rest  []byte // of what was begun to be written; comes before b
	spare []byte // memory for the next b
	busy  bool
	held  bool // who is about to put something is waited for, up to outboxPiece
	limit int  // bytes from which awaitRoom waits
	err   error
}

func newOutbox(st CallStream, limit int) *outbox {
	o := &outbox{st: st, wake: make(chan struct{}, 1), limit: limit}
	o.room.L = &o.mu
	return o
}

// begin takes the lock for appending to b, if what is put will be written, as far as is known.
func (o *outbox) begin() bool {
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		return false
	}
	return true
}

// end releases the lock that begin has taken, and sees to it that b is written. patient: others are about to put something.
func (o *outbox) end(patient bool) {
	defer o.mu.Unlock()
	if !o.held || len(o.b) >= outboxPiece {
		o.writeLocked(patient)
	}
}

// hold lets what is put gather until release.
func (o *outbox) hold() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = true
}

// release has written what has gathered.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held = false; len(o.b) > 0 && o.err == nil {
		o.writeLocked(false)
	}
}

// writeLocked writes what is in b, if nobody writes. It gives mu up meanwhile.
func (o *outbox) writeLocked(patient bool) {
	if o.busy {
		return // who writes looks again
	}
	o.busy = true
	if patient {
		o.gatherLocked()
	}
	b := o.takeLocked()
	o.mu.Unlock()
	n, err := o.st.TryWrite(b)
	o.mu.Lock()
	o.wroteLocked(b, n, err)
	if o.busy = o.err != nil || len(o.rest)+len(o.b) > 0; o.busy {
		o.wakeRun()
	}
}

// outboxPiece is how many bytes are written without letting those put something who are about to.
const outboxPiece = 16 << 10

// gatherLocked lets others run as long as more comes: of callers that were answered together each makes its next call, and one piece with all
// of them costs both sides less than many pieces.
func (o *outbox) gatherLocked() {
	for some := -1; len(o.b) > some && len(o.b) < outboxPiece && o.err == nil; {
		some = len(o.b)
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
	}
}

func (o *outbox) takeLocked() (b []byte) {
	b, o.b, o.spare = o.b, o.spare[:0], nil
	return b
}

// wroteLocked takes back b, which takeLocked has returned, and of which n bytes are written.
func (o *outbox) wroteLocked(b []byte, n int, err error) {
	switch {
	case err != nil:
		o.failLocked(err)
	case n < len(b):
		o.rest = b[n:]
	case cap(b) <= 1<<20: // else of a large message
		o.spare = b
	}
	o.room.Broadcast()
}

// awaitRoom waits until less than the limit waits to be written, or nothing ever will be.
func (o *outbox) awaitRoom() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.hasRoomLocked() {
		o.room.Wait()
	}
}

func (o *outbox) hasRoomLocked() bool { return len(o.b)+len(o.rest) <= o.limit || o.err != nil }

func (o *outbox) hasRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hasRoomLocked()
}

// run writes what those who put could not, until fail.
func (o *outbox) run() error {
	for range o.wake {
		if err := o.drain(); err != nil {
			return err
		}
	}
	return nil
}

// drain writes until nothing is left.
func (o *outbox) drain() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && len(o.rest)+len(o.b) > 0 {
		b := o.rest
		if o.rest = nil; len(b) == 0 {
			o.gatherLocked()
			b = o.takeLocked()
		}
		o.mu.Unlock()
		n, err := o.st.Write(b)
		o.mu.Lock()
		o.wroteLocked(b, n, err)
	}
	o.busy = o.err != nil
	return o.err
}

// wakeRun leaves run a token.
func (o *outbox) wakeRun() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// fail makes run return. The first reason counts.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failLocked(err)
}

func (o *outbox) failLocked(err error) {
	if o.err == nil {
		o.err = err
		o.room.Broadcast()
	}
	o.wakeRun()
}

// Replies are what waits to be sent to a caller on a stream. Any goroutine may put.
type Replies struct{ out *outbox }

// NewReplies returns an empty one, of which Room waits while more than limit bytes wait.
func NewReplies(st CallStream, limit int) *Replies { return &Replies{newOutbox(st, limit)} }

// Put puts replies. It does not block, and keeps nothing of them.
func (r *Replies) Put(replies []Reply) {
	if !r.out.begin() {
		return
	}
	for i := range replies {
		r.out.b = replies[i].AppendMessage(r.out.b)
	}
	r.out.end(false)
}

// HasRoom reports whether Room would not wait.
func (r *Replies) HasRoom() bool { return r.out.hasRoom() }

// Room waits until there is room for more, or the stream has ended.
func (r *Replies) Room() { r.out.awaitRoom() }

// Run sends what Put could not send at once, until the stream or the line ends.
func (r *Replies) Run() error { return r.out.run() }

// End makes Run return.
func (r *Replies) End(err error) { r.out.fail(err) }

// streamLine is a line on a stream.
type streamLine struct {
	st  CallStream
	out *outbox
	w   Waiting
	wg  sync.WaitGroup
}

// NewLine makes a line of a stream, as CallerConfig.Open returns it.
func NewLine(st CallStream, w Waiting) Line {
	l := &streamLine{st: st, out: newOutbox(st, 0), w: w}
	l.wg.Go(func() {
		if err := l.out.run(); err != nil {
			_ = st.Close()
		}
	})
	l.wg.Go(func() {
		err := l.read()
		l.out.fail(err)
		w.Lost(err)
		_ = st.Close()
	})
	return l
}

// read hands replies on until an error, all that have come at a time. Who is answered may be about to make the next call: what is sent
// meanwhile leaves together.
func (l *streamLine) read() error {
	r := NewMessages(l.st, MaxCallMessage)
	var all []Reply
	for {
		b, err := r.Next()
		if err != nil {
			return err
		}
		reply, err := ParseReply(b)
		if err != nil {
			return err
		}
		reply.Body = bytes.Clone(reply.Body)
		if all = append(all, reply); r.Waits() {
			continue
		}
		l.out.hold()
		l.w.Replied(all)
		l.w.Resumed()
		l.out.release()
		clear(all)
		all = all[:0]
	}
}

// Send implements [Line].
func (l *streamLine) Send(q Request) {
	if l.out.begin() {
		l.out.b = q.AppendMessage(l.out.b)
		l.out.end(true)
	}
}

// Close implements [Line].
func (l *streamLine) Close() {
	l.out.fail(ErrLineLost)
	_ = l.st.Close()
	l.wg.Wait()
}
