package wire

import (
	"runtime"
	"sync"
)

// A CallStream is what a line of calls is made of.
type CallStream interface {
	Write(p []byte) (int, error)
	Recv(limit int) ([]byte, error)
	Close() error
}

// An outbox gathers messages of any number of goroutines and writes all that have come meanwhile at once.
type outbox struct {
	mu    sync.Mutex // guards everything below
	wake  sync.Cond
	b     []byte
	limit int // bytes from which put waits
	err   error
}

func newOutbox(limit int) *outbox {
	o := &outbox{limit: limit}
	o.wake.L = &o.mu
	return o
}

// put adds a message that f appends. It reports whether it will be written, as far as is known.
func (o *outbox) put(f func(b []byte) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return false
	}
	o.b = f(o.b)
	o.wake.Broadcast()
	return true
}

// room waits until less than the limit waits to be written, or nothing ever will be.
func (o *outbox) room() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.b) > o.limit && o.err == nil {
		o.wake.Wait()
	}
}

// outboxPiece is how many bytes are written without letting those put something who are about to.
const outboxPiece = 16 << 10

// run writes until an error, or end. As long as more comes, others run first: of callers that were answered together each makes its next
// call, and one piece with all of them costs both sides less than many pieces.
func (o *outbox) run(st CallStream) error {
	var spare []byte
	for {
		o.mu.Lock()
		for len(o.b) == 0 && o.err == nil {
			o.wake.Wait()
		}
		for some := 0; len(o.b) > some && len(o.b) < outboxPiece && o.err == nil; {
			some = len(o.b)
			o.mu.Unlock()
			runtime.Gosched()
			o.mu.Lock()
		}
		if o.err != nil {
			o.mu.Unlock()
			return o.err
		}
		b := o.b
		o.b = spare[:0]
		o.wake.Broadcast()
		o.mu.Unlock()
		if _, err := st.Write(b); err != nil {
			o.end(err)
			return err
		}
		if spare = b; cap(spare) > 1<<20 {
			spare = nil // of a large message
		}
	}
}

// end makes run return. The first reason counts.
func (o *outbox) end(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
		o.wake.Broadcast()
	}
}

// Replies are what waits to be sent to a caller on a stream. Any goroutine may put.
type Replies struct{ out *outbox }

// NewReplies returns an empty one, of which Room waits while more than limit bytes wait.
func NewReplies(limit int) *Replies { return &Replies{newOutbox(limit)} }

// Put puts a reply. It does not block.
func (r *Replies) Put(reply *Reply) { r.out.put(reply.AppendMessage) }

// Room waits until there is room for more, or the stream has ended.
func (r *Replies) Room() { r.out.room() }

// Run sends them until the stream or the line ends.
func (r *Replies) Run(st CallStream) error { return r.out.run(st) }

// End makes Run return.
func (r *Replies) End(err error) { r.out.end(err) }

// streamLine is a line on a stream.
type streamLine struct {
	st  CallStream
	out *outbox
	wg  sync.WaitGroup
}

// NewLine makes a line of a stream, as CallerConfig.Open returns it.
func NewLine(st CallStream, replies func(Reply), lost func(error)) Line {
	l := &streamLine{st: st, out: newOutbox(0)}
	l.wg.Go(func() {
		if err := l.out.run(st); err != nil {
			_ = st.Close()
		}
	})
	l.wg.Go(func() {
		for {
			b, err := st.Recv(MaxCallMessage)
			var r Reply
			if err == nil {
				r, err = ParseReply(b)
			}
			if err != nil {
				l.out.end(err)
				lost(err)
				_ = st.Close()
				return
			}
			replies(r)
		}
	})
	return l
}

// Send implements [Line].
func (l *streamLine) Send(q *Request) { l.out.put(q.AppendMessage) }

// Close implements [Line].
func (l *streamLine) Close() {
	l.out.end(ErrLineLost)
	_ = l.st.Close()
	l.wg.Wait()
}
