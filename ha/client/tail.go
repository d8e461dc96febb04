package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// An Entry is one committed record. It has the fields of ha.Entry, and can be converted to one.
type Entry struct {
	Index uint64 // the record's own number: 1, 2, 3 … without holes
	Epoch uint64 // in which it was appended
	Data  []byte // its content, the reader's own, unless he borrows it; it shares memory with up to 64 KiB of its neighbours
}

// Subscribe yields the committed records from an index on, 0 meaning 1, and then each new one, until ctx ends: 1, 2, 3 … without
// gap or duplicate, the same as on every member (G6). They come from any member, rather from one that is not Active; when that
// ends, or does not get on itself, from another one, at the record where it has stopped. The error comes once, last: the cause of ctx,
// [ErrClosed], a *[CompactedError] when no member that can be asked holds the next record, or a refusal that does not pass.
//
// What is read ahead is at most 2 MiB and one record; twice that for all those of one client together that have everything, and share what is sent.
// Who reads slowly slows nobody.
func (c *Client) Subscribe(ctx context.Context, from uint64) iter.Seq2[Entry, error] {
	return c.tail(ctx, from, false)
}

// Borrow is Subscribe for who is done with each record before he asks for the next one: its Data is lent until then, and must not be kept, nor written to; then its
// memory is used again. So reading makes no garbage, which takes a good part of the time of who reads much. What is read ahead takes up to twice as much memory.
func (c *Client) Borrow(ctx context.Context, from uint64) iter.Seq2[Entry, error] {
	return c.tail(ctx, from, true)
}

func (c *Client) tail(ctx context.Context, from uint64, lent bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		ctx, cancel := c.within(ctx)
		defer cancel()
		c.company.enter()
		defer c.company.leave()
		t := tailer{c: c, next: max(from, 1), yield: yield, lent: lent}
		if err := t.run(ctx); err != nil {
			yield(Entry{}, err)
		}
	}
}

// within returns a ctx that ends with the client, too.
func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.sessions.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// A tailer is one reader's place in the log.
type tailer struct {
	c       *Client
	next    uint64 // record
	yield   func(Entry, error) bool
	lent    bool     // what is yielded is the reader's only until he asks for the next
	records [][]byte // memory
	unsound bool     // parts were not what was appended: the next member is to verify what it gives
	left    place    // that was read from last
}

// errEnough is the end of a tail whose reader wants no more.
var errEnough = errors.New("enough")

// run reads from one member after the other. It returns nil when the reader wants no more.
func (t *tailer) run(ctx context.Context) error {
	for pause := (backoff{}); ; {
		err := t.round(ctx, &pause)
		switch {
		case err == errEnough:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case !pause.wait(ctx):
			return context.Cause(ctx)
		}
	}
}

// round tries each member once, or until one has brought something. Its error is the last that there is.
func (t *tailer) round(ctx context.Context, pause *backoff) error {
	var gone *CompactedError
	var last error
	refusals, all := 0, t.c.together(t.left)
	for _, at := range all {
		from := t.next
		t.left = at
		last = t.read(ctx, at)
		var compacted *CompactedError
		switch {
		case last == errEnough, ctx.Err() != nil:
			return last
		case errors.As(last, &compacted) && (gone == nil || compacted.First < gone.First):
			gone = compacted
		case forGood(last):
			refusals++
		}
		t.c.cfg.Logger.Debug("tail ended", "cluster", t.c.cfg.Cluster, "at", at.String(), "from", from, "next", t.next, "err", last)
		if t.next > from {
			*pause = backoff{}
			return nil
		}
	}
	switch {
	case gone != nil:
		return gone
	case refusals == len(all):
		return last
	}
	return nil
}

// read reads from one member until that ends, whose error it returns: for itself, and once all is read that there is, together with the client's other tails, until they part.
func (t *tailer) read(ctx context.Context, at place) error {
	for {
		f, p, err := t.alone(ctx, at)
		if err == nil {
			err = t.follow(ctx, f, p)
		}
		if err != errAlone {
			return err
		}
	}
}

// alone reads from one member until that ends, or others read on together, and returns where.
func (t *tailer) alone(ctx context.Context, at place) (*feed, *page, error) {
	st, err := t.c.sessions.open(ctx, at, wire.KindTail)
	if err != nil {
		return nil, nil, err
	}
	defer st.Close()
	st.Assemble(t.lent)
	if err := st.Send(wire.TailRequest(t.next, !t.unsound, 1)); err != nil {
		return nil, nil, err
	}
	t.unsound = false
	for {
		b, m, err := receive(st, t.records)
		switch {
		case err != nil:
			t.unsound = errors.Is(err, wire.ErrUnsound)
			return nil, nil, err
		case m.Compacted:
			return nil, nil, &CompactedError{Index: m.Index, First: m.Held}
		}
		if t.records = m.Records; m.First != t.next {
			return nil, nil, fmt.Errorf("%w: record %d comes where %d should", wire.ErrMalformed, m.First, t.next)
		}
		if err := t.give(ctx, m.Epoch, m.Records); err != nil {
			return nil, nil, err
		}
		if f, p := t.c.company.join(t.next, at, len(b) < wire.TailPart/2); f != nil {
			return f, p, nil
		}
	}
}

// receive returns the next message of a tail, and what it says, the records in the memory of records. One that says nothing ends the stream.
func receive(st *session.Stream, records [][]byte) (b []byte, m wire.Tail, err error) {
	if b, err = st.Recv(wire.MaxTailMessage); err != nil {
		return nil, m, err
	}
	if m, err = wire.ParseTail(b, records); err != nil {
		st.Reset(session.StreamFailed, err.Error())
	}
	return b, m, err
}

// give yields the next records, which are of one epoch.
func (t *tailer) give(ctx context.Context, epoch uint64, records [][]byte) error {
	for _, data := range records {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := Entry{Index: t.next, Epoch: epoch, Data: data}
		t.next++
		if !t.yield(e, nil) {
			return errEnough
		}
	}
	return nil
}
