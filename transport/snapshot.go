package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	chunkSize = 256 << 10
	endSize   = 20 // body of an end frame

	ackTaken  = 0
	ackFailed = 1

	// receiverPatience is how many times SnapshotTimeout a receiver may stand still, whose disk may be busy. Nothing but
	// other snapshots to it waits for that, and those end what is being sent.
	receiverPatience = 3

	// digestRate is how many bytes a second a receiver must at least sync and verify before it acknowledges.
	digestRate = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrSnapshotNotTaken is told to [Handler.SnapshotSent], with the receiver's text, when its ReceiveSnapshot failed.
var ErrSnapshotNotTaken = errors.New("transport: receiver did not take the snapshot")

// ErrSuperseded is told to [Handler.SnapshotSent] when a newer MsgSnap of the same group to the same peer was given to
// Send: raft does that only when it has given up the older one.
var ErrSuperseded = errors.New("transport: a newer snapshot is to be sent")

// outbox sends snapshots to one peer, one at a time. A group has at most one waiting: a newer one takes the place of an
// older one. It ends one that is being sent, unless it is the same snapshot, which a leader wants to be sent in a newer
// term: then what is being sent goes on, and arrives as the newer message. So a transfer that takes longer than a
// leadership is not begun anew for ever.
type outbox struct {
	p       *peer
	wake    chan struct{} // 1: something is waiting
	backoff backoff       // after failures; run's

	mu      sync.Mutex // guards what follows
	waiting []parcel
	sending parcel                  // g is nil when nothing is
	sealed  bool                    // of sending: its end is on its way, with the term that it arrives in
	cancel  context.CancelCauseFunc // of what is being sent
	closed  bool
}

type parcel struct {
	g *Group
	m *raftpb.Message
}

func (o *outbox) push(g *Group, m *raftpb.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		o.fate(parcel{g, m}, ErrClosed)
		return
	}
	if i := slices.IndexFunc(o.waiting, func(w parcel) bool { return w.g == g }); i >= 0 {
		o.fate(o.waiting[i], ErrSuperseded)
		o.waiting = slices.Delete(o.waiting, i, i+1)
	}
	if o.sending.g == g {
		if !o.sealed && sameSnapshot(o.sending.m, m) {
			o.fate(o.sending, ErrSuperseded)
			o.sending.m = m
			return
		}
		if !sameSnapshot(o.sending.m, m) {
			o.cancel(ErrSuperseded)
		}
	}
	o.waiting = append(o.waiting, parcel{g, m})
	session.Signal(o.wake)
}

// fate tells what has become of a parcel, from another goroutine.
func (o *outbox) fate(p parcel, err error) {
	p.g.news.add(notice{what: noticeSnapshot, id: o.p.ID, m: p.m, err: err})
}

func sameSnapshot(a, b *raftpb.Message) bool {
	x, y := a.GetSnapshot(), b.GetSnapshot()
	return x.GetMetadata().GetIndex() == y.GetMetadata().GetIndex() && x.GetMetadata().GetTerm() == y.GetMetadata().GetTerm() &&
		bytes.Equal(x.GetData(), y.GetData())
}

// seal returns the term in which what is being sent arrives.
func (o *outbox) seal() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sealed = true
	return o.sending.m.GetTerm()
}

// next takes the next parcel. The ctx is that of sending it. Without one, last says that there will be no more.
func (o *outbox) next(ctx context.Context) (p parcel, sctx context.Context, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		o.closed = ctx.Err() != nil
		return parcel{}, nil, o.closed
	}
	p = o.waiting[0]
	o.waiting = slices.Delete(o.waiting, 0, 1)
	o.sending, o.sealed = p, false
	sctx, o.cancel = context.WithCancelCause(ctx)
	return p, sctx, false
}

// sent ends the sending of a parcel and returns it, as the one that it has become.
func (o *outbox) sent() parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.sending
	o.sending = parcel{}
	o.cancel(nil)
	return p
}

// run sends what is waiting until ctx ends, and then answers for what still waits.
func (o *outbox) run(ctx context.Context) {
	for {
		next, sctx, last := o.next(ctx)
		if last {
			return
		}
		if next.g == nil {
			select {
			case <-o.wake:
			case <-ctx.Done():
			}
			continue
		}
		err := o.send(sctx, next)
		if cause := context.Cause(sctx); err != nil && cause != nil {
			err = cause
		}
		if ctx.Err() != nil {
			err = ErrClosed
		}
		next = o.sent()
		o.p.counts.end(err)
		o.pause(ctx, err)
		next.g.h.SnapshotSent(next.m, err)
	}
}

// pause waits after a failure before it is told, since the answer is another snapshot.
func (o *outbox) pause(ctx context.Context, err error) {
	if err == nil || errors.Is(err, ErrSuperseded) {
		o.backoff = backoff{}
		return
	}
	cfg := &o.p.t.cfg
	lo := cfg.Backoff
	if errors.Is(err, ErrRefused) {
		lo = cfg.MaxBackoff
	}
	select {
	case <-time.After(o.backoff.next(lo, max(lo, cfg.MaxBackoff))):
	case <-ctx.Done():
	}
}

// send sends one snapshot and waits for its acknowledgement.
func (o *outbox) send(ctx context.Context, s parcel) error {
	cfg := &o.p.t.cfg
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

	body, size, err := s.g.h.OpenSnapshot(s.m.GetSnapshot())
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	defer body.Close()

	// The receiver may say no in the middle, and read no further.
	ack := make(chan error, 1)
	go func() {
		err := readAck(l)
		if err != nil {
			l.Close()
		}
		ack <- err
	}()
	total, err := o.write(l, s, body, size)
	if err != nil {
		l.Close()
		if no := <-ack; errors.Is(no, ErrSnapshotNotTaken) {
			return no
		}
		return err
	}
	patience := receiverPatience*cfg.SnapshotTimeout + time.Duration(float64(total)/digestRate*float64(time.Second))
	if err := l.Raw.SetReadDeadline(time.Now().Add(patience)); err != nil {
		// The receiver has said no already, and readAck has closed the connection.
		l.Close()
		return errors.Join(<-ack, err)
	}
	return <-ack
}

func readAck(l *session.Link) error {
	f, err := l.Next(2 + session.MaxText)
	if err != nil {
		return fmt.Errorf("snapshot was not acknowledged: %w", err)
	}
	if f.Kind != session.KindAck {
		return fmt.Errorf("%w: type %d instead of an acknowledgement", session.ErrFrame, f.Kind)
	}
	code, text, err := session.DecodeCoded(f.Body)
	if err == nil && code != ackTaken {
		err = fmt.Errorf("%w: %s", ErrSnapshotNotTaken, text)
	}
	return err
}

// write writes one snapshot and returns the size of its body.
func (o *outbox) write(l *session.Link, s parcel, body io.Reader, size int64) (total int64, err error) {
	timeout := receiverPatience * o.p.t.cfg.SnapshotTimeout
	head, err := appendMessage(nil, session.KindSnapshot, s.g.id, binary.BigEndian.AppendUint64(nil, uint64(size)), s.m)
	if err != nil {
		return 0, err
	}
	if err := l.Send(head, timeout); err != nil {
		return 0, err
	}
	var (
		sum uint32
		buf = make([]byte, session.HeaderSize+chunkSize)
	)
	for {
		n, rerr := io.ReadFull(body, buf[session.HeaderSize:])
		if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
			return 0, fmt.Errorf("read snapshot: %w", rerr)
		}
		if n > 0 {
			chunk := buf[:session.HeaderSize+n]
			sum = crc32.Update(sum, castagnoli, chunk[session.HeaderSize:])
			total += int64(n)
			o.p.counts.sentBytes.Add(uint64(n))
			if size >= 0 && total > size {
				break
			}
			session.SealFrame(chunk, session.KindChunk, s.g.id)
			if err := l.Send(chunk, timeout); err != nil {
				return 0, err
			}
		}
		if rerr != nil {
			break
		}
	}
	if size >= 0 && total != size {
		return 0, fmt.Errorf("read snapshot: its body does not have the %d bytes that were announced", size)
	}
	return total, l.Send(session.AppendFrame(nil, session.KindEnd, s.g.id, appendEnd(nil, total, sum, o.seal())), timeout)
}

func appendEnd(b []byte, total int64, sum uint32, term uint64) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(total))
	b = binary.BigEndian.AppendUint32(b, sum)
	return binary.BigEndian.AppendUint64(b, term)
}

// takeSnapshot receives the one snapshot of a connection and acknowledges it.
func (t *TCP) takeSnapshot(ctx context.Context, p *peer, l *session.Link) error {
	if err := l.Raw.SetReadDeadline(time.Now().Add(t.cfg.SnapshotTimeout)); err != nil {
		return err
	}
	f, err := l.Next(t.cfg.MaxFrame + 8)
	if err != nil {
		return err
	}
	if f.Kind == session.KindRefuse {
		return t.turnedAway(p, l, f)
	}
	if f.Kind != session.KindSnapshot || len(f.Body) < 8 {
		return fmt.Errorf("%w: type %d instead of a snapshot", session.ErrFrame, f.Kind)
	}
	size := int64(binary.BigEndian.Uint64(f.Body))
	if size < -1 {
		return fmt.Errorf("%w: snapshot of %d bytes", session.ErrFrame, size)
	}
	f.Body = f.Body[8:]
	m, err := decodeMessage(f, PurposeSnapshot, p.ID, t.cfg.Self.ID)
	if err != nil {
		return err
	}
	err = t.handSnapshot(ctx, p, l, f.ID, m, size)
	code, text := uint16(ackTaken), ""
	if err != nil {
		p.counts.notTaken.Add(1)
		code, text = ackFailed, err.Error()
	} else {
		p.counts.received.Add(1)
	}
	werr := l.Send(session.AppendFrame(nil, session.KindAck, f.ID, session.AppendCoded(nil, code, text)), t.cfg.WriteTimeout)
	if err != nil && werr == nil {
		l.Linger(ctx)
	}
	return errors.Join(err, werr)
}

// handSnapshot gives the snapshot to its group's handler.
func (t *TCP) handSnapshot(ctx context.Context, p *peer, l *session.Link, group uint64, m *raftpb.Message, size int64) error {
	g := t.dir.Load().groups[group]
	if g == nil {
		return fmt.Errorf("member %q has no group %d", t.cfg.Self.Name, group)
	}
	// The handler of a connection that this one replaced may still be at work.
	select {
	case p.taking <- struct{}{}:
	case <-time.After(t.cfg.SnapshotTimeout):
		return errors.New("an older snapshot is still being taken")
	case <-ctx.Done():
		return ErrClosed
	}
	defer func() { <-p.taking }()
	body := &snapshotBody{
		l: l, group: group, m: m, size: size, slack: t.cfg.SnapshotTimeout, timeout: t.cfg.SnapshotTimeout, rate: t.cfg.SnapshotRate,
	}
	defer func() { p.counts.receivedBytes.Add(uint64(body.total)) }()
	if err := g.h.ReceiveSnapshot(m, size, body); err != nil {
		return err
	}
	if !body.ended {
		var b [1]byte
		if n, err := body.Read(b[:]); n > 0 {
			return errors.New("snapshot was not read to its end")
		} else if err != io.EOF {
			return err
		}
	}
	return nil
}

// snapshotBody reads the chunks of a snapshot. With a size that is known the end is verified before the last bytes are
// given out, so that a reader which stops after size bytes does not miss it.
//
// A sender that stands still, or merely trickles, has a deadline: it is waited for timeout at a time at most, and in all no
// longer than timeout and what the bytes that came take at rate. Time that the reader spends elsewhere does not count.
type snapshotBody struct {
	l       *session.Link
	group   uint64
	m       *raftpb.Message // gets the term that the end brings
	size    int64
	timeout time.Duration
	rate    int64         // bytes a second
	slack   time.Duration // how long the sender is waited for now
	chunk   []byte        // what is left of the current one; in the frame reader's buffer
	hold    []byte        // the last chunk while the frame after it is read
	total   int64
	sum     uint32
	ended   bool
	err     error
}

func (b *snapshotBody) Read(p []byte) (int, error) {
	for len(b.chunk) == 0 && b.err == nil {
		b.err = b.next()
	}
	if len(b.chunk) == 0 {
		return 0, b.err
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	return n, nil
}

// next reads one frame, two at the end. It returns io.EOF only after a verified end.
func (b *snapshotBody) next() error {
	f, err := b.frame()
	if err != nil {
		return err
	}
	switch f.Kind {
	case session.KindEnd:
		return b.end(f)
	case session.KindChunk:
	default:
		return fmt.Errorf("%w: type %d in a snapshot", session.ErrFrame, f.Kind)
	}
	if len(f.Body) == 0 {
		return fmt.Errorf("%w: empty chunk", session.ErrFrame)
	}
	b.total += int64(len(f.Body))
	b.sum = crc32.Update(b.sum, castagnoli, f.Body)
	if b.size >= 0 && b.total > b.size {
		return fmt.Errorf("%w: snapshot is longer than its %d bytes", session.ErrFrame, b.size)
	}
	if b.total != b.size {
		b.chunk = f.Body
		return nil
	}
	b.hold = append(b.hold[:0], f.Body...)
	if f, err = b.frame(); err != nil {
		return err
	}
	if f.Kind != session.KindEnd {
		return fmt.Errorf("%w: type %d instead of the end of a snapshot", session.ErrFrame, f.Kind)
	}
	if err := b.end(f); err != io.EOF {
		return err
	}
	b.chunk = b.hold
	return io.EOF
}

func (b *snapshotBody) frame() (session.Frame, error) {
	began := time.Now()
	if err := b.l.Raw.SetReadDeadline(began.Add(b.slack)); err != nil {
		return session.Frame{}, err
	}
	f, err := b.l.Next(chunkSize)
	earned := time.Duration(float64(len(f.Body)) / float64(b.rate) * float64(time.Second))
	b.slack = min(b.slack-time.Since(began)+earned, b.timeout)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("less than %d bytes a second after %d bytes: %w", b.rate, b.total, err)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && f.ID != b.group {
		err = fmt.Errorf("%w: group %d in a snapshot of group %d", session.ErrFrame, f.ID, b.group)
	}
	if err != nil {
		return session.Frame{}, fmt.Errorf("read snapshot: %w", err)
	}
	return f, nil
}

func (b *snapshotBody) end(f session.Frame) error {
	if len(f.Body) != endSize {
		return fmt.Errorf("%w: end of %d bytes", session.ErrFrame, len(f.Body))
	}
	total, sum, term := int64(binary.BigEndian.Uint64(f.Body)), binary.BigEndian.Uint32(f.Body[8:]), binary.BigEndian.Uint64(f.Body[12:])
	if total != b.total || sum != b.sum || b.size >= 0 && total != b.size {
		return fmt.Errorf("%w: snapshot of %d bytes with checksum %08x, should be %d with %08x", session.ErrFrame, b.total, b.sum, total, sum)
	}
	if term < b.m.GetTerm() {
		return fmt.Errorf("%w: a snapshot that began in term %d ends in term %d", session.ErrFrame, b.m.GetTerm(), term)
	}
	b.m.Term = &term
	b.ended = true
	return io.EOF
}
