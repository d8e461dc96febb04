package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	frameMagic = 0xBA
	headerSize = 24

	// growStep is what is allocated for a body before its first byte has arrived.
	growStep = 64 << 10
	// keepBuffer is the largest buffer that a connection keeps between frames.
	keepBuffer = 1 << 20
	// maxEntries bounds what decoding may allocate: an empty entry is 2 bytes on the wire and a hundred in memory.
	maxEntries = 1 << 18
	// maxControl bounds one control message.
	maxControl = 64 << 10
)

type kind byte

const (
	kindHello    kind = 1
	kindRefuse   kind = 2
	kindMessage  kind = 3
	kindSnapshot kind = 4
	kindChunk    kind = 5
	kindEnd      kind = 6
	kindAck      kind = 7
)

// errFrame is wrapped by every error about bytes that are not what the format says, as opposed to bytes that do not come.
var errFrame = errors.New("malformed frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealFrame fills the header in the first headerSize bytes of b, whose rest is the body.
func sealFrame(b []byte, k kind, group uint64) {
	body := b[headerSize:]
	b[0], b[1] = frameMagic, byte(k)
	binary.BigEndian.PutUint16(b[2:], 0)
	binary.BigEndian.PutUint32(b[4:], uint32(len(body)))
	binary.BigEndian.PutUint64(b[8:], group)
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(body, castagnoli))
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

// appendFrame appends a whole frame to b.
func appendFrame(b []byte, k kind, group uint64, body []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, headerSize)...)
	b = append(b, body...)
	sealFrame(b[at:], k, group)
	return b
}

// appendMessage appends a frame of the message, with prefix before it in the body.
func appendMessage(b []byte, k kind, group uint64, prefix []byte, m *raftpb.Message) ([]byte, error) {
	at := len(b)
	b = append(b, make([]byte, headerSize)...)
	b = append(b, prefix...)
	out, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return b[:at], fmt.Errorf("encode %v: %w", m.GetType(), err)
	}
	sealFrame(out[at:], k, group)
	return out, nil
}

type frame struct {
	kind  kind
	group uint64
	body  []byte // valid until the next frame is read
}

// frameReader reads frames. The buffer of the bodies is its own and is reused: decoding copies out of it, so that an
// entry that stays in the log for long keeps no more memory than its own bytes.
type frameReader struct {
	r    *bufio.Reader
	head [headerSize]byte
	buf  []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 32<<10)}
}

// next reads a frame with a body of at most limit bytes. Its error is io.EOF only between frames.
func (fr *frameReader) next(limit int) (frame, error) {
	h := fr.head[:]
	if _, err := io.ReadFull(fr.r, h); err != nil {
		return frame{}, err
	}
	if h[0] != frameMagic {
		return frame{}, fmt.Errorf("%w: begins with %#02x", errFrame, h[0])
	}
	if got, want := crc32.Checksum(h[:20], castagnoli), binary.BigEndian.Uint32(h[20:]); got != want {
		return frame{}, fmt.Errorf("%w: header checksum is %08x, should be %08x", errFrame, got, want)
	}
	if flags := binary.BigEndian.Uint16(h[2:]); flags != 0 {
		return frame{}, fmt.Errorf("%w: unknown flags %#04x", errFrame, flags)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if uint64(n) > uint64(limit) {
		return frame{}, fmt.Errorf("%w: body of %d bytes, the limit is %d", errFrame, n, limit)
	}
	body, err := fr.body(int(n))
	if err != nil {
		return frame{}, err
	}
	if got, want := crc32.Checksum(body, castagnoli), binary.BigEndian.Uint32(h[16:]); got != want {
		return frame{}, fmt.Errorf("%w: body checksum is %08x, should be %08x", errFrame, got, want)
	}
	return frame{kind: kind(h[1]), group: binary.BigEndian.Uint64(h[8:]), body: body}, nil
}

// body reads n bytes. It allocates no more than growStep, or twice what has arrived.
func (fr *frameReader) body(n int) ([]byte, error) {
	buf := fr.buf[:0]
	for len(buf) < n {
		at := len(buf)
		step := min(n-at, max(at, growStep, cap(buf)-at))
		buf = slices.Grow(buf, step)[:at+step]
		if _, err := io.ReadFull(fr.r, buf[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	if cap(buf) <= keepBuffer {
		fr.buf = buf
	} else {
		fr.buf = nil
	}
	return buf, nil
}

// laneOf says which connection a message travels on; false: it is not for the wire. That are raft's local messages, and
// MsgProp and MsgForgetLeader, which baton does not forward.
func laneOf(t raftpb.MessageType) (Purpose, bool) {
	switch t {
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgVote, raftpb.MsgVoteResp,
		raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTimeoutNow, raftpb.MsgTransferLeader:
		return PurposeControl, true
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		return PurposeBulk, true
	case raftpb.MsgSnap:
		return PurposeSnapshot, true
	}
	return 0, false
}

// Field numbers of raftpb.Message.
const (
	fieldEntries   = 7
	fieldSnapshot  = 9
	fieldResponses = 14
)

// decodeMessage decodes and checks a message that came from peer `from` for us, on a connection of the given purpose.
// The message shares nothing with body.
func decodeMessage(body []byte, purpose Purpose, from, to uint64) (*raftpb.Message, error) {
	if err := inspect(body, purpose); err != nil {
		return nil, err
	}
	m := new(raftpb.Message)
	if err := (proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 16}).Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if lane, ok := laneOf(m.GetType()); !ok || lane != purpose {
		return nil, fmt.Errorf("%w: %v on a %v connection", errFrame, m.GetType(), purpose)
	}
	if m.GetFrom() != from || m.GetTo() != to {
		return nil, fmt.Errorf("%w: %v from %x to %x on a connection from %x to %x", errFrame, m.GetType(), m.GetFrom(), m.GetTo(), from, to)
	}
	return m, nil
}

// inspect walks the fields of an encoded message, and finds those that would make decoding costly.
func inspect(body []byte, purpose Purpose) error {
	entries := 0
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return fmt.Errorf("%w: %w", errFrame, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, typ, body[n:])
		if size < 0 {
			return fmt.Errorf("%w: %w", errFrame, protowire.ParseError(size))
		}
		switch {
		case num == fieldResponses:
			return fmt.Errorf("%w: message with responses", errFrame)
		case num == fieldSnapshot && purpose != PurposeSnapshot && size > 16:
			return fmt.Errorf("%w: snapshot on a %v connection", errFrame, purpose)
		case num == fieldEntries:
			if entries++; entries > maxEntries {
				return fmt.Errorf("%w: more than %d entries", errFrame, maxEntries)
			}
		}
		body = body[n+size:]
	}
	return nil
}
