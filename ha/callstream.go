package ha

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/transport"
)

// This file takes calls from streams. Who is no member is believed nothing: what it can make this member hold is bounded.

// serveCalls takes the calls that come on a stream.
func (n *Node) serveCalls(ctx context.Context, st *transport.Stream) error {
	outside := callerRole(st.Peer().Role) != RoleMember
	if outside {
		if n.handling.streams.Add(1) > max(64, min(n.cfg.MemoryBytes, ampleMemory)/bytesPerCaller) {
			n.handling.streams.Add(-1)
			return &transport.StreamError{Code: transport.StreamBusy, Text: "this member serves as many callers as it can"}
		}
		defer n.handling.streams.Add(-1)
	}
	replies := wire.NewReplies(st, maxReplies)
	d := n.newDesk(st.Peer().Name, callerRole(st.Peer().Role), replies.Put)
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer replies.End(wire.ErrLineLost)
	defer cancel()
	serving.Go(func() { _ = replies.Run() })
	in := callReader{n: n, st: st, messages: wire.NewMessages(st, wire.CallHead+wire.MaxCall), outside: outside}
	take := func(b []byte) int { return in.take(b, d, replies) }
	wake := false
	defer func() { // others may have appended to the same batch
		if wake {
			n.log.Wake()
		}
	}()
	for {
		if wake && !(in.messages.Waits() && replies.HasRoom() && in.small()) { // the last of those that are taken without waiting for anything
			n.log.Wake()
			wake = false
		}
		if in.messages.Empty() {
			st.Await(take)
		}
		replies.Room()
		q, done, err := in.next(ctx)
		switch {
		case errors.Is(err, wire.ErrMalformed):
			return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
		case errors.Is(err, ErrTooLarge):
			d.answer(q.Tag, nil, err)
		case err != nil:
			return nil
		default:
			wake = d.take(q) || wake
		}
		done()
	}
}

const (
	// bytesPerCaller is how much of the memory stands for the stream of one caller that is no member.
	bytesPerCaller = 128 << 10
	// smallCall is up to how many bytes a request of such a one is read without waiting for others, and largeCalls how many larger
	// ones are read at a time, each for slowTail at most.
	smallCall  = 16 << 10
	largeCalls = 8
)

// A callReader reads the requests of one stream.
type callReader struct {
	n        *Node
	st       *transport.Stream
	messages *wire.Messages
	outside  bool // of one who is no member
}

// small reports whether a request that has come is small enough to be taken at once.
func (r *callReader) small() bool {
	size, err := r.messages.Size()
	return err == nil && size-wire.CallHead <= smallCall
}

// nothing is done with what takes nothing.
func nothing() {}

// next reads a request, whose data are valid until the next is read. done is to be called when it was taken. Of one that is too large only
// the head is read, and the rest skipped.
func (r *callReader) next(ctx context.Context) (q wire.Request, done func(), err error) {
	size, err := r.messages.Size()
	if err != nil {
		return q, nothing, err
	}
	if size -= wire.CallHead; size < 0 {
		return q, nothing, fmt.Errorf("%w: a request of %d bytes", wire.ErrMalformed, size)
	}
	if size > r.n.cfg.MaxRecord {
		head, err := r.messages.Head(wire.CallHead)
		if err == nil {
			q, err = wire.ParseRequest(head)
		}
		if err == nil {
			err = r.messages.Skip()
		}
		if err == nil {
			err = fmt.Errorf("%w: a request of %d bytes", ErrTooLarge, size)
		}
		return q, nothing, err
	}
	done = nothing
	if r.outside && size > smallCall {
		select {
		case r.n.handling.large <- struct{}{}:
		case <-ctx.Done():
			return q, nothing, context.Cause(ctx)
		}
		slow := time.AfterFunc(slowTail, func() { r.st.Reset(wire.CodeSlow, "a request did not come to its end") })
		done = func() { slow.Stop(); <-r.n.handling.large }
	}
	b, err := r.messages.Next()
	if err == nil {
		q, err = wire.ParseRequest(b)
	}
	if err != nil {
		done()
		done = nothing
	}
	return q, done, err
}

// take takes the requests at the beginning of what has come that are whole and small, on the goroutine that reads the connection, as long as there is room for
// replies, and returns how many bytes they are. All else is for next.
func (r *callReader) take(b []byte, d *callDesk, replies *wire.Replies) (n int) {
	wake := false
	for replies.HasRoom() {
		message, rest, ok := wire.CutMessage(b[n:])
		if !ok || len(message)-wire.CallHead > min(smallCall, r.n.cfg.MaxRecord) {
			break
		}
		q, err := wire.ParseRequest(message)
		if err != nil {
			break
		}
		wake = d.take(q) || wake
		n = len(b) - len(rest)
	}
	if wake {
		r.n.log.Wake()
	}
	return n
}

// maxReplies is how many bytes of replies wait for a caller to take them before no more is read from it.
const maxReplies = 1 << 20

// callerRole is the role of a peer, of which members say none.
func callerRole(r Role) Role {
	if r == 0 {
		return RoleMember
	}
	return r
}
