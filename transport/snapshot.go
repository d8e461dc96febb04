package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	chunkSize = 256 << 10
	endSize   = 12 // body of an end frame

	ackTaken  = 0
	ackFailed = 1
)

// ErrSnapshotNotTaken is told to [Handler.SnapshotSent], with the receiver's text, when its ReceiveSnapshot failed.
var ErrSnapshotNotTaken = errors.New("transport: receiver did not take the snapshot")

// ErrSuperseded is told to [Handler.SnapshotSent] when a newer snapshot of the same group to the same peer was given to
// Send: raft does that only when it has given up the older one.
var ErrSuperseded = errors.New("transport: a newer snapshot is to be sent")

// outbox sends snapshots to one peer, one at a time. A group has at most one waiting: a newer one takes the place of an
// older one, and ends one that is being sent.
type outbox struct {
	p       *peer
	wake    chan struct{} // 1: something is waiting
	backoff backoff       // after failures; run's

	mu      sync.Mutex // guards what follows
	waiting []parcel
	sending *Group
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
		o.p.t.inbox.add(notice{g: g, what: noticeSnapshot, id: o.p.ID, err: ErrClosed})
		return
	}
	signal(o.wake)
	if o.sending == g {
		o.cancel(ErrSuperseded)
	}
	if i := slices.IndexFunc(o.waiting, func(w parcel) bool { return w.g == g }); i >= 0 {
		o.waiting[i].m = m
		o.p.t.inbox.add(notice{g: g, what: noticeSnapshot, id: o.p.ID, err: ErrSuperseded})
		return
	}
	o.waiting = append(o.waiting, parcel{g: g, m: m})
}

// run sends what is waiting until ctx ends, and then answers for what still waits.
func (o *outbox) run(ctx context.Context) {
	for {
		sctx, cancel := context.WithCancelCause(ctx)
		o.mu.Lock()
		var next parcel
		if len(o.waiting) == 0 && ctx.Err() != nil {
			o.closed = true
			o.mu.Unlock()
			cancel(nil)
			return
		}
		if len(o.waiting) > 0 {
			next = o.waiting[0]
			o.waiting = slices.Delete(o.waiting, 0, 1)
		}
		o.sending, o.cancel = next.g, cancel
		o.mu.Unlock()

		if next.g != nil {
			err := o.send(sctx, next)
			if cause := context.Cause(sctx); err != nil && cause != nil {
				err = cause
			}
			if ctx.Err() != nil {
				err = ErrClosed
			}
			cancel(nil)
			o.pause(ctx, err)
			next.g.h.SnapshotSent(o.p.ID, err)
			continue
		}
		cancel(nil)
		select {
		case <-o.wake:
		case <-ctx.Done():
		}
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
	l, err := o.p.t.dial(ctx, o.p.Peer, PurposeSnapshot)
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
	if err := writeSnapshot(l, s, body, size, cfg.SnapshotTimeout); err != nil {
		l.Close()
		if no := <-ack; errors.Is(no, ErrSnapshotNotTaken) {
			return no
		}
		return err
	}
	if err := l.raw.SetReadDeadline(time.Now().Add(cfg.SnapshotTimeout)); err != nil {
		l.Close()
		<-ack
		return err
	}
	return <-ack
}

func readAck(l *link) error {
	f, err := l.r.next(2 + maxText)
	if err != nil {
		return fmt.Errorf("snapshot was not acknowledged: %w", err)
	}
	if f.kind != kindAck {
		return fmt.Errorf("%w: type %d instead of an acknowledgement", errFrame, f.kind)
	}
	code, text, err := decodeCoded(f.body)
	if err == nil && code != ackTaken {
		err = fmt.Errorf("%w: %s", ErrSnapshotNotTaken, text)
	}
	return err
}

func writeSnapshot(l *link, s parcel, body io.Reader, size int64, timeout time.Duration) error {
	head, err := appendMessage(nil, kindSnapshot, s.g.id, binary.BigEndian.AppendUint64(nil, uint64(size)), s.m)
	if err != nil {
		return err
	}
	if err := l.write(head, timeout); err != nil {
		return err
	}
	var (
		sum   uint32
		total int64
		buf   = make([]byte, headerSize+chunkSize)
	)
	for {
		n, rerr := io.ReadFull(body, buf[headerSize:])
		if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF {
			return fmt.Errorf("read snapshot: %w", rerr)
		}
		if n > 0 {
			chunk := buf[:headerSize+n]
			sum = crc32.Update(sum, castagnoli, chunk[headerSize:])
			total += int64(n)
			if size >= 0 && total > size {
				break
			}
			sealFrame(chunk, kindChunk, s.g.id)
			if err := l.write(chunk, timeout); err != nil {
				return err
			}
		}
		if rerr != nil {
			break
		}
	}
	if size >= 0 && total != size {
		return fmt.Errorf("read snapshot: its body does not have the %d bytes that were announced", size)
	}
	end := binary.BigEndian.AppendUint64(nil, uint64(total))
	end = binary.BigEndian.AppendUint32(end, sum)
	return l.write(appendFrame(nil, kindEnd, s.g.id, end), timeout)
}

// takeSnapshot receives the one snapshot of a connection and acknowledges it.
func (t *TCP) takeSnapshot(ctx context.Context, p *peer, l *link) error {
	if err := l.raw.SetReadDeadline(time.Now().Add(t.cfg.SnapshotTimeout)); err != nil {
		return err
	}
	f, err := l.r.next(t.cfg.MaxFrame + 8)
	if err != nil {
		return err
	}
	if f.kind == kindRefuse {
		return t.turnedAway(p, l, f)
	}
	if f.kind != kindSnapshot || len(f.body) < 8 {
		return fmt.Errorf("%w: type %d instead of a snapshot", errFrame, f.kind)
	}
	size := int64(binary.BigEndian.Uint64(f.body))
	if size < -1 {
		return fmt.Errorf("%w: snapshot of %d bytes", errFrame, size)
	}
	f.body = f.body[8:]
	m, err := decodeMessage(f, PurposeSnapshot, p.ID, t.cfg.Self.ID)
	if err != nil {
		return err
	}
	err = t.handSnapshot(ctx, p, l, f.group, m, size)
	code, text := uint16(ackTaken), ""
	if err != nil {
		code, text = ackFailed, err.Error()
	}
	werr := l.write(appendFrame(nil, kindAck, f.group, appendCoded(nil, code, text)), t.cfg.WriteTimeout)
	if err != nil && werr == nil {
		l.linger(ctx)
	}
	return errors.Join(err, werr)
}

// handSnapshot gives the snapshot to its group's handler.
func (t *TCP) handSnapshot(ctx context.Context, p *peer, l *link, group uint64, m *raftpb.Message, size int64) error {
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
	body := &snapshotBody{l: l, group: group, size: size, timeout: t.cfg.SnapshotTimeout}
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
type snapshotBody struct {
	l       *link
	group   uint64
	size    int64
	timeout time.Duration
	chunk   []byte // what is left of the current one; in the frame reader's buffer
	hold    []byte // the last chunk while the frame after it is read
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
	switch f.kind {
	case kindEnd:
		return b.end(f)
	case kindChunk:
	default:
		return fmt.Errorf("%w: type %d in a snapshot", errFrame, f.kind)
	}
	if len(f.body) == 0 {
		return fmt.Errorf("%w: empty chunk", errFrame)
	}
	b.total += int64(len(f.body))
	b.sum = crc32.Update(b.sum, castagnoli, f.body)
	if b.size >= 0 && b.total > b.size {
		return fmt.Errorf("%w: snapshot is longer than its %d bytes", errFrame, b.size)
	}
	if b.total != b.size {
		b.chunk = f.body
		return nil
	}
	b.hold = append(b.hold[:0], f.body...)
	if f, err = b.frame(); err != nil {
		return err
	}
	if f.kind != kindEnd {
		return fmt.Errorf("%w: type %d instead of the end of a snapshot", errFrame, f.kind)
	}
	if err := b.end(f); err != io.EOF {
		return err
	}
	b.chunk = b.hold
	return io.EOF
}

func (b *snapshotBody) frame() (frame, error) {
	if err := b.l.raw.SetReadDeadline(time.Now().Add(b.timeout)); err != nil {
		return frame{}, err
	}
	f, err := b.l.r.next(chunkSize)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && f.group != b.group {
		err = fmt.Errorf("%w: group %d in a snapshot of group %d", errFrame, f.group, b.group)
	}
	if err != nil {
		return frame{}, fmt.Errorf("read snapshot: %w", err)
	}
	return f, nil
}

func (b *snapshotBody) end(f frame) error {
	if len(f.body) != endSize {
		return fmt.Errorf("%w: end of %d bytes", errFrame, len(f.body))
	}
	total, sum := int64(binary.BigEndian.Uint64(f.body)), binary.BigEndian.Uint32(f.body[8:])
	if total != b.total || sum != b.sum || b.size >= 0 && total != b.size {
		return fmt.Errorf("%w: snapshot of %d bytes with checksum %08x, should be %d with %08x", errFrame, b.total, b.sum, total, sum)
	}
	b.ended = true
	return io.EOF
}
