package transport

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// This file sends one snapshot, over as many connections as it takes. Where one breaks, the next one goes on: the receiver says how
// much it has, and a checksum of it, and if that is how the body begins, the rest is sent. The body stays open meanwhile, so it
// is the same one, whatever has taken its place here: a checkpoint that is made while a snapshot is on its way does not begin it
// anew, for ever where checkpoints come faster than snapshots go.

const (
	// receiverPatience is how many times SnapshotTimeout a receiver may stand still, whose disk may be busy, or be away. Nothing
	// but other snapshots to it waits for that, and those end what is being sent.
	receiverPatience = 3

	// goOnVersion is the protocol's since which receivers say what they have.
	goOnVersion = 5

	// fruitless is how many connections in a row may break without the receiver having more than before.
	fruitless = 3

	haveSize = 8 + sha256.Size // body of a have frame
	fromSize = 8               // of a from frame
)

// A rewinder is a body that can be read again from its beginning. One that is none is sent over one connection only.
type rewinder interface{ Rewind() error }

// A sending is a snapshot on its way.
type sending struct {
	o    *outbox
	s    parcel
	body io.ReadCloser
	size int64
	now  *journey

	best   int64     // what the receiver has had at most
	vain   int       // connections in a row that have brought no more
	moved  time.Time // when something was sent last, zero: never
	behind bool      // the body was read from
	ended  bool      // its end was on its way: the receiver may have taken it, and we not have heard so
}

// errEnded is returned when the receiver has nothing of a snapshot, and may have all of it.
var errEnded = errors.New("snapshot was not acknowledged, and the receiver may have it")

// errBody is wrapped by what is wrong with the body here: no other connection would help.
var errBody = errors.New("read snapshot")

// send sends one snapshot and waits for its acknowledgement.
func (o *outbox) send(ctx context.Context, s parcel) error {
	body, size, err := s.g.h.OpenSnapshot(s.m.GetSnapshot())
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	defer body.Close()
	now := newJourney(s.m, size)
	o.p.sending.Store(now)
	defer o.p.sending.Store(nil)
	x := sending{o: o, s: s, body: body, size: size, now: now}
	for {
		err := x.connect(ctx)
		if err == nil || !x.again(err) {
			return err
		}
		o.p.counts.broken.Add(1)
		cfg := &o.p.t.cfg
		select {
		case <-time.After(o.backoff.next(cfg.Backoff, cfg.MaxBackoff)):
		case <-ctx.Done():
			return err
		}
	}
}

// again reports whether another connection may bring what this one has not.
func (x *sending) again(err error) bool {
	if x.behind {
		r, ok := x.body.(rewinder)
		if !ok || r.Rewind() != nil {
			return false
		}
		x.behind = false
	}
	switch {
	case errors.Is(err, ErrSnapshotNotTaken), errors.Is(err, ErrRefused), errors.Is(err, errBody), errors.Is(err, errEnded), errors.Is(err, session.ErrFrame):
		return false
	case x.moved.IsZero(), x.vain > fruitless, time.Since(x.moved) > receiverPatience*x.o.p.t.cfg.SnapshotTimeout:
		return false
	}
	x.ended = x.o.unseal() || x.ended
	return true
}

// connect sends what the receiver lacks over one connection.
func (x *sending) connect(ctx context.Context) error {
	o, s := x.o, x.s
	l, err := o.p.t.end.Dial(o.p.small(ctx), o.p.Peer, PurposeSnapshot)
	if err != nil {
		var r *RefusedError
		if errors.As(err, &r) {
			o.p.t.refused(r)
		}
		return err
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()

	// The receiver may say no in the middle, and read no further.
	have, ack := make(chan had, 1), make(chan error, 1)
	go func() {
		h, err := readAnswer(l)
		if h != nil {
			have <- *h
			_, err = readAnswer(l)
		}
		if err != nil {
			l.Close()
		}
		ack <- err
	}()
	timeout := receiverPatience * o.p.t.cfg.SnapshotTimeout
	head, err := appendMessage(nil, session.KindSnapshot, s.g.id, binary.BigEndian.AppendUint64(nil, uint64(x.size)), o.latest())
	if err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	from := int64(0)
	err = l.Send(head, timeout)
	if err == nil && l.Peer.Version >= goOnVersion {
		wait := time.NewTimer(timeout + digesting(x.size))
		defer wait.Stop()
		select {
		case h := <-have:
			from, err = x.agree(ctx, l, h)
		case err := <-ack:
			return err
		case <-wait.C:
			err = errors.New("the receiver does not say what it has")
		}
	}
	total := from
	if err == nil {
		total, err = x.write(ctx, l, from)
	}
	if err != nil {
		l.Close()
		if no := <-ack; errors.Is(no, ErrSnapshotNotTaken) {
			return no
		}
		return err
	}
	if err := l.Raw.SetReadDeadline(time.Now().Add(timeout + digesting(total))); err != nil {
		// The receiver has said no already, and readAnswer has closed the connection.
		l.Close()
		return errors.Join(<-ack, err)
	}
	return <-ack
}

// had is what a receiver has of a body already.
type had struct {
	bytes int64
	sum   [sha256.Size]byte
}

// readAnswer reads what a receiver says: what it has, or in the end whether it has taken the snapshot.
func readAnswer(l *session.Link) (*had, error) {
	f, err := l.Next(2 + session.MaxText)
	switch {
	case err != nil:
		return nil, fmt.Errorf("snapshot was not acknowledged: %w", err)
	case f.Kind == session.KindHave && len(f.Body) == haveSize:
		return &had{int64(binary.BigEndian.Uint64(f.Body)), [sha256.Size]byte(f.Body[8:])}, nil
	case f.Kind != session.KindAck:
		return nil, fmt.Errorf("%w: type %d instead of an acknowledgement", session.ErrFrame, f.Kind)
	}
	code, text, err := session.DecodeCoded(f.Body)
	if err == nil && code != ackTaken {
		err = fmt.Errorf("%w: %s", ErrSnapshotNotTaken, text)
	}
	return nil, err
}

// agree answers what the receiver has with where the body goes on: there, if the body begins so, and else at its beginning.
func (x *sending) agree(ctx context.Context, l *session.Link, h had) (from int64, err error) {
	if h.bytes == 0 && x.ended {
		return 0, errEnded
	}
	if h.bytes > 0 && (x.size < 0 || h.bytes <= x.size) {
		x.behind = true
		sum := sha256.New()
		n, err := io.CopyBuffer(sum, ending{ctx, io.LimitReader(x.body, h.bytes)}, make([]byte, chunkSize))
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errBody, err)
		}
		if n == h.bytes && [sha256.Size]byte(sum.Sum(nil)) == h.sum {
			from = n
		} else if r, ok := x.body.(rewinder); !ok {
			return 0, fmt.Errorf("%w: it cannot be read again", errBody)
		} else if err := r.Rewind(); err != nil {
			return 0, fmt.Errorf("%w: %w", errBody, err)
		}
	}
	if x.vain++; from > x.best {
		x.best, x.vain = from, 0
	}
	x.o.p.counts.skippedBytes.Add(uint64(from))
	x.now.bytes.Store(from)
	return from, l.Send(session.AppendFrame(nil, session.KindFrom, x.s.g.id, binary.BigEndian.AppendUint64(nil, uint64(from))), x.o.p.t.cfg.WriteTimeout)
}

// ending is a reader that ends with a ctx.
type ending struct {
	ctx context.Context
	r   io.Reader
}

func (e ending) Read(p []byte) (int, error) {
	if e.ctx.Err() != nil {
		return 0, context.Cause(e.ctx)
	}
	return e.r.Read(p)
}

// write writes the body, of which so much is there already, and returns the size of all of it.
func (x *sending) write(ctx context.Context, l *session.Link, from int64) (total int64, err error) {
	o, id := x.o, x.s.g.id
	timeout := receiverPatience * o.p.t.cfg.SnapshotTimeout
	var (
		sum uint32
		buf = make([]byte, session.HeaderSize+chunkSize)
	)
	x.behind, total = true, from
	for {
		n, rerr := io.ReadFull(x.body, buf[session.HeaderSize:])
		if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
			return 0, fmt.Errorf("%w: %w", errBody, rerr)
		}
		if n > 0 {
			chunk := buf[:session.HeaderSize+n]
			sum = crc32.Update(sum, castagnoli, chunk[session.HeaderSize:])
			total += int64(n)
			if x.size >= 0 && total > x.size {
				break
			}
			if err := o.p.t.pacer.wait(ctx, n); err != nil {
				return 0, err
			}
			session.SealFrame(chunk, session.KindChunk, id)
			if err := l.Send(chunk, timeout); err != nil {
				return 0, err
			}
			o.p.counts.sentBytes.Add(uint64(n))
			x.now.bytes.Store(total)
			x.moved = time.Now()
			o.backoff = backoff{}
		}
		if rerr != nil {
			break
		}
	}
	if x.size >= 0 && total != x.size {
		return 0, fmt.Errorf("%w: its body does not have the %d bytes that were announced", errBody, x.size)
	}
	return total, l.Send(session.AppendFrame(nil, session.KindEnd, id, appendEnd(nil, total, sum, o.seal())), timeout)
}

func appendEnd(b []byte, total int64, sum uint32, term uint64) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(total))
	b = binary.BigEndian.AppendUint32(b, sum)
	return binary.BigEndian.AppendUint64(b, term)
}
