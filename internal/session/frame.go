package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// HeaderSize is the size of a frame without its body.
const HeaderSize = 24

const (
	frameMagic = 0xBA

	// growStep is what is allocated for a body before its first byte has arrived: enough for the append messages that raft
	// makes, of 1 MiB of entries, in one piece. In the handshake the limit is lower.
	growStep = 1<<20 + 64<<10
	// keepBuffer is the largest buffer that a connection keeps between frames.
	keepBuffer = 2 << 20
	// ownBody is the largest message that is read into the buffer of the connection: that of one without entries, nearly
	// always, which is decoded without keeping a byte of it.
	ownBody = 512
)

// Kind is the type of a frame. All are listed here, so that none is given twice; what is in the frames from message to taken
// is not this package's business.
type Kind byte

// The kinds of frames. Numbers are never used again.
const (
	KindHello    Kind = 1
	KindRefuse   Kind = 2
	KindMessage  Kind = 3 // numbered, and a large one gets a body of its own
	KindSnapshot Kind = 4
	KindChunk    Kind = 5
	KindEnd      Kind = 6
	KindAck      Kind = 7
	KindTaken    Kind = 8
	KindOpen     Kind = 9 // from here on of streams, see mux.go
	KindData     Kind = 10
	KindFin      Kind = 11
	KindReset    Kind = 12
	KindCredit   Kind = 13
	KindPing     Kind = 14
	KindPong     Kind = 15
	KindHave     Kind = 16 // of snapshots again, from their receiver
	KindFrom     Kind = 17
	KindSealed   Kind = 18 // of streams: data without a checksum here, see sealedread.go
)

// ErrFrame is wrapped by every error about bytes that are not what the format says, as opposed to bytes that do not come.
var ErrFrame = errors.New("malformed frame")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SealFrame fills the header in the first HeaderSize bytes of b, whose rest is the body.
func SealFrame(b []byte, k Kind, id uint64) {
	body := b[HeaderSize:]
	PutHeader(b, k, id, len(body), crc32.Checksum(body, castagnoli))
}

// PutHeader fills a header, of a body of n bytes with a checksum.
func PutHeader(b []byte, k Kind, id uint64, n int, sum uint32) {
	b[0], b[1] = frameMagic, byte(k)
	binary.BigEndian.PutUint16(b[2:], 0)
	binary.BigEndian.PutUint32(b[4:], uint32(n))
	binary.BigEndian.PutUint64(b[8:], id)
	binary.BigEndian.PutUint32(b[16:], sum)
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

// AppendFrame appends a whole frame to b.
func AppendFrame(b []byte, k Kind, id uint64, body []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	b = append(b, body...)
	SealFrame(b[at:], k, id)
	return b
}

// NumberFrame makes a sealed message frame the one with this number on its connection.
func NumberFrame(b []byte, number uint16) {
	binary.BigEndian.PutUint16(b[2:], number)
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

// Frame is one frame as it was read.
type Frame struct {
	Kind   Kind
	Number uint16 // of a message
	ID     uint64 // of the group, or of the stream
	Body   []byte
	Sealed int  // bytes of the body of a sealed frame, which is still to be read
	Owned  bool // Body is the frame's own; otherwise it is valid until the next frame is read
}

// FrameReader reads frames. A message larger than ownBody gets a body of its own, which its entries then share instead of
// being copied: an entry that stays in the log keeps its whole frame, but so do its neighbours, which stay as long. All
// other bodies use one buffer again and again.
type FrameReader struct {
	in   *source // what r reads from
	r    *bufio.Reader
	head [HeaderSize]byte
	buf  []byte
	sum  Summer // of messages; nil: nobody knows better
}

// A Summer returns the checksum of a body, and whether what has checksums of its own in it is what they say. It reads each byte once.
type Summer func(body []byte) (sum uint32, sound bool)

// NewFrameReader returns a reader of what r brings.
func NewFrameReader(r io.Reader) *FrameReader {
	in := &source{r: r}
	return &FrameReader{in: in, r: bufio.NewReaderSize(in, 32<<10), buf: make([]byte, 0, ownBody)}
}

// widen makes the reader read more at a time from its connection, for sessions that are few and carry much.
func (fr *FrameReader) widen(size int) {
	come, _ := fr.r.Peek(fr.r.Buffered())
	fr.in.come = append(fr.in.come, come...)
	fr.r = bufio.NewReaderSize(fr.in, size)
}

// SumBy has messages summed by who knows what is in them.
func (fr *FrameReader) SumBy(sum Summer) { fr.sum = sum }

// Next reads a frame with a body of at most limit bytes. Its error is io.EOF only between frames.
func (fr *FrameReader) Next(limit int) (Frame, error) {
	h := fr.head[:]
	if _, err := io.ReadFull(fr.r, h); err != nil {
		return Frame{}, err
	}
	if h[0] != frameMagic {
		return Frame{}, fmt.Errorf("%w: begins with %#02x", ErrFrame, h[0])
	}
	if got, want := crc32.Checksum(h[:20], castagnoli), binary.BigEndian.Uint32(h[20:]); got != want {
		return Frame{}, fmt.Errorf("%w: header checksum is %08x, should be %08x", ErrFrame, got, want)
	}
	flags := binary.BigEndian.Uint16(h[2:])
	if flags != 0 && Kind(h[1]) != KindMessage {
		return Frame{}, fmt.Errorf("%w: unknown flags %#04x", ErrFrame, flags)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if Kind(h[1]) == KindSealed {
		return Frame{Kind: KindSealed, ID: binary.BigEndian.Uint64(h[8:]), Sealed: int(n)}, nil
	}
	if uint64(n) > uint64(limit) {
		return Frame{}, fmt.Errorf("%w: body of %d bytes, the limit is %d", ErrFrame, n, limit)
	}
	out := Frame{Kind: Kind(h[1]), Number: flags, ID: binary.BigEndian.Uint64(h[8:])}
	out.Owned = out.Kind == KindMessage && n > ownBody
	var err error
	if out.Owned {
		out.Body, err = fr.read(nil, int(n))
	} else if int(n) <= fr.r.Size() {
		out.Body, err = fr.peek(int(n))
	} else if out.Body, err = fr.read(fr.buf, int(n)); cap(out.Body) <= keepBuffer {
		fr.buf = out.Body
	} else {
		fr.buf = nil
	}
	if err != nil {
		return Frame{}, err
	}
	got, sound := uint32(0), true
	if fr.sum != nil && out.Kind == KindMessage {
		got, sound = fr.sum(out.Body)
	} else {
		got = crc32.Checksum(out.Body, castagnoli)
	}
	if want := binary.BigEndian.Uint32(h[16:]); got != want {
		return Frame{}, fmt.Errorf("%w: body checksum is %08x, should be %08x", ErrFrame, got, want)
	}
	if !sound {
		return Frame{}, fmt.Errorf("%w: what it holds is not what was appended", ErrFrame)
	}
	return out, nil
}

// peek returns the next n bytes where they are.
func (fr *FrameReader) peek(n int) ([]byte, error) {
	b, err := fr.r.Peek(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		_, err = fr.r.Discard(n)
	}
	return b, err
}

// read reads n bytes into buf, or a larger buffer. It allocates no more than growStep, or twice what has arrived.
func (fr *FrameReader) read(buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		at := len(buf)
		to := min(n, max(2*at, growStep, cap(buf)))
		if to > cap(buf) {
			buf = append(make([]byte, 0, to), buf...)
		}
		buf = buf[:to]
		if _, err := io.ReadFull(fr.r, buf[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}
