package transport

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// This file receives snapshots; sendsnapshot.go sends them.

const (
	chunkSize = 256 << 10
	endSize   = 20 // body of an end frame

	ackTaken  = 0
	ackFailed = 1

	// digestRate is how many bytes a second each side must at least read and digest: a receiver before it acknowledges, and
	// both where a snapshot goes on.
	digestRate = 8 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digesting is how long so many bytes may take to be digested.
func digesting(n int64) time.Duration {
	return time.Duration(float64(max(n, 0)) / digestRate * float64(time.Second))
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
	if errors.Is(err, net.ErrClosed) || errors.Is(err, ErrClosed) {
		return err // the sender sees the connection end
	}
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
	now := newJourney(m, size)
	p.receiving.Store(now)
	defer p.receiving.Store(nil)
	body := &snapshotBody{
		l: l, group: group, m: m, size: size, slack: t.cfg.SnapshotTimeout, timeout: t.cfg.SnapshotTimeout, rate: t.cfg.SnapshotRate, now: now,
		answer: t.cfg.WriteTimeout,
	}
	defer func() { p.counts.receivedBytes.Add(uint64(body.total - body.from)) }()
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
	answer  time.Duration // in which the sender must take what is said to it
	agreed  bool          // it is known where the body begins
	from    int64         // that
	total   int64         // bytes of the body, with those before from
	sum     uint32        // of those behind it
	ended   bool
	err     error
	now     *journey
}

// Resume tells the sender that the first bytes of the body are there, and their SHA-256, and returns where what is read begins: behind
// them, if that is how the sender's body begins, and else at 0. It comes before the first Read, or not at all.
func (b *snapshotBody) Resume(have int64, sum [sha256.Size]byte) (from int64, err error) {
	if b.agreed {
		return 0, errors.New("it is being read already")
	}
	b.agreed = true
	if b.l.Peer.Version < goOnVersion {
		return 0, nil
	}
	frame := session.AppendFrame(nil, session.KindHave, b.group, append(binary.BigEndian.AppendUint64(nil, uint64(have)), sum[:]...))
	if err := b.l.Send(frame, b.answer); err != nil {
		return 0, err
	}
	if err := b.l.Raw.SetReadDeadline(time.Now().Add(b.timeout + digesting(have))); err != nil {
		return 0, err
	}
	f, err := b.l.Next(fromSize)
	if err != nil {
		return 0, fmt.Errorf("read snapshot: %w", err)
	}
	if f.Kind != session.KindFrom || len(f.Body) != fromSize || f.ID != b.group {
		return 0, fmt.Errorf("%w: type %d instead of where a snapshot goes on", session.ErrFrame, f.Kind)
	}
	if from = int64(binary.BigEndian.Uint64(f.Body)); from != have && from != 0 {
		return 0, fmt.Errorf("%w: a snapshot of which %d bytes are there goes on at %d", session.ErrFrame, have, from)
	}
	b.from, b.total = from, from
	b.now.bytes.Store(from)
	return from, nil
}

func (b *snapshotBody) Read(p []byte) (int, error) {
	if !b.agreed {
		_, b.err = b.Resume(0, sha256.Sum256(nil))
	}
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
	b.now.bytes.Store(b.total)
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
