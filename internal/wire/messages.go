package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Messages reads the messages of a stream, each a length and so many bytes. Those that have come together are read together.
type Messages struct {
	r     *bufio.Reader
	limit int
}

const (
	lengthSize = 4
	// messagesBuffer is how many bytes are read at a time. A larger message gets memory of its own.
	messagesBuffer = 32 << 10
	// firstPiece is how much of that is allocated before a byte has come.
	firstPiece = 64 << 10
)

// NewMessages returns a reader of messages of at most limit bytes.
func NewMessages(r io.Reader, limit int) *Messages {
	return &Messages{r: bufio.NewReaderSize(r, messagesBuffer), limit: limit}
}

// Size waits for the next message, and returns how many bytes it has. io.EOF only comes between messages.
func (m *Messages) Size() (int, error) {
	b, err := m.peek(lengthSize)
	if err != nil {
		return 0, err
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(m.limit) {
		return 0, fmt.Errorf("%w: a message of %d bytes, the limit is %d", ErrMalformed, n, m.limit)
	}
	return int(n), nil
}

// Head waits for the first n bytes of the next message, which has them.
func (m *Messages) Head(n int) ([]byte, error) {
	b, err := m.peek(lengthSize + n)
	if err != nil {
		return nil, err
	}
	return b[lengthSize:], nil
}

// Next returns the next message. It is valid until the next call for which Waits is false.
func (m *Messages) Next() ([]byte, error) {
	n, err := m.Size()
	if err != nil {
		return nil, err
	}
	if lengthSize+n > m.r.Size() {
		return m.large(n)
	}
	b, err := m.Head(n)
	if err == nil {
		_, err = m.r.Discard(lengthSize + n)
	}
	return b, err
}

// Waits reports whether the next message has come.
func (m *Messages) Waits() bool {
	b, _ := m.r.Peek(m.r.Buffered()) // without reading more
	_, _, ok := CutMessage(b)
	return ok
}

// Empty reports whether nothing was read that was not returned.
func (m *Messages) Empty() bool { return m.r.Buffered() == 0 }

// CutMessage cuts the first message off bytes that have come; ok: all of it is there.
func CutMessage(b []byte) (message, rest []byte, ok bool) {
	if len(b) < lengthSize {
		return nil, b, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(len(b)-lengthSize) < uint64(n) {
		return nil, b, false
	}
	end := lengthSize + int(n)
	return b[lengthSize:end], b[end:], true
}

// Skip throws the next message away.
func (m *Messages) Skip() error {
	n, err := m.Size()
	if err == nil {
		_, err = m.r.Discard(lengthSize + n)
	}
	return err
}

func (m *Messages) peek(n int) ([]byte, error) {
	b, err := m.r.Peek(n)
	if errors.Is(err, io.EOF) && len(b) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// large reads a message that the buffer does not hold. No more is allocated than twice what has come.
func (m *Messages) large(n int) (b []byte, err error) {
	if _, err := m.r.Discard(lengthSize); err != nil {
		return nil, err
	}
	for len(b) < n {
		at := len(b)
		to := min(n, max(2*at, firstPiece))
		b = append(make([]byte, 0, to), b...)[:to]
		if _, err := io.ReadFull(m.r, b[at:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}
