package ha

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	replies := wire.NewReplies(maxReplies)
	d := n.newDesk(st.Peer().Name, callerRole(st.Peer().Role), replies.Put)
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer replies.End(wire.ErrLineLost)
	defer cancel()
	serving.Go(func() { d.complete(ctx) })
	serving.Go(func() { _ = replies.Run(st) })
	for {
		replies.Room()
		q, done, err := n.receiveCall(ctx, st, outside)
		switch {
		case errors.Is(err, wire.ErrMalformed):
			return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
		case errors.Is(err, ErrTooLarge):
			d.answer(q.Tag, nil, err)
		case err != nil:
			return nil
		default:
			d.take(q)
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

// receiveCall reads a request. done is to be called when it was taken. Of one that is too large only the head is read, and the rest skipped.
func (n *Node) receiveCall(ctx context.Context, st *transport.Stream, outside bool) (q wire.Request, done func(), err error) {
	done = func() {}
	head := make([]byte, 4+wire.CallHead)
	if _, err := io.ReadFull(st, head); err != nil {
		return q, done, err
	}
	size := int64(binary.BigEndian.Uint32(head)) - wire.CallHead
	if size < 0 || size > wire.MaxCall {
		return q, done, fmt.Errorf("%w: a request of %d bytes", wire.ErrMalformed, size)
	}
	if size > int64(n.cfg.MaxRecord) {
		if q, err = wire.ParseRequest(head[4:]); err == nil {
			_, err = io.CopyN(io.Discard, st, size)
		}
		if err == nil {
			err = fmt.Errorf("%w: a request of %d bytes", ErrTooLarge, size)
		}
		return q, done, err
	}
	if outside && size > smallCall {
		select {
		case n.handling.large <- struct{}{}:
		case <-ctx.Done():
			return q, done, context.Cause(ctx)
		}
		slow := time.AfterFunc(slowTail, func() { st.Reset(wire.CodeSlow, "a request did not come to its end") })
		done = func() { slow.Stop(); <-n.handling.large }
	}
	b := append(make([]byte, 0, wire.CallHead+size), head[4:]...)[:wire.CallHead+size]
	if _, err = io.ReadFull(st, b[wire.CallHead:]); err == nil {
		q, err = wire.ParseRequest(b)
	}
	if err != nil {
		done()
		done = func() {}
	}
	return q, done, err
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
