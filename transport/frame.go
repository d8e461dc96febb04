package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	frameMagic = 0xBA
	headerSize = 24

	// growStep is what is allocated for a body before its first byte has arrived: enough for the append messages that raft
	// makes, of 1 MiB of entries, in one piece. In the handshake the limit is lower.
	growStep = 1<<20 + 64<<10
	// keepBuffer is the largest buffer that a connection keeps between frames.
	keepBuffer = 2 << 20
	// ownBody is the largest message that is read into the buffer of the connection: that of one without entries, nearly
	// always, which is decoded without keeping a byte of it.
	ownBody = 512
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
	kindTaken    kind = 8
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

// numberFrame makes a sealed message frame the one with this number on its connection.
func numberFrame(b []byte, number uint16) {
	binary.BigEndian.PutUint16(b[2:], number)
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
}

type frame struct {
	kind   kind
	number uint16 // of a message
	group  uint64
	body   []byte
	owned  bool // body is the frame's own; otherwise it is valid until the next frame is read
}

// frameReader reads frames. A message larger than ownBody gets a body of its own, which its entries then share instead of
// being copied: an entry that stays in the log keeps its whole frame, but so do its neighbours, which stay as long. All
// other bodies use one buffer again and again.
type frameReader struct {
	r    *bufio.Reader
	head [headerSize]byte
	buf  []byte
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 32<<10), buf: make([]byte, 0, ownBody)}
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
	flags := binary.BigEndian.Uint16(h[2:])
	if flags != 0 && kind(h[1]) != kindMessage {
		return frame{}, fmt.Errorf("%w: unknown flags %#04x", errFrame, flags)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if uint64(n) > uint64(limit) {
		return frame{}, fmt.Errorf("%w: body of %d bytes, the limit is %d", errFrame, n, limit)
	}
	out := frame{kind: kind(h[1]), number: flags, group: binary.BigEndian.Uint64(h[8:])}
	out.owned = out.kind == kindMessage && n > ownBody
	var err error
	if out.owned {
		out.body, err = fr.read(nil, int(n))
	} else if out.body, err = fr.read(fr.buf, int(n)); cap(out.body) <= keepBuffer {
		fr.buf = out.body
	} else {
		fr.buf = nil
	}
	if err != nil {
		return frame{}, err
	}
	if got, want := crc32.Checksum(out.body, castagnoli), binary.BigEndian.Uint32(h[16:]); got != want {
		return frame{}, fmt.Errorf("%w: body checksum is %08x, should be %08x", errFrame, got, want)
	}
	return out, nil
}

// read reads n bytes into buf, or a larger buffer. It allocates no more than growStep, or twice what has arrived.
func (fr *frameReader) read(buf []byte, n int) ([]byte, error) {
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
