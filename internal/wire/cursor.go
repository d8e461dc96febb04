package wire

import (
	"encoding/binary"
	"fmt"
)

// KindCursor is the kind of streams on which cursors are asked for and moved: one request of whoever opens it, and one answer. The
// member that is asked carries a client's request to the leader; a member's it does not carry on.
const KindCursor = "cursor"

// A CursorRequest asks for a cursor, or to move or drop it.
type CursorRequest struct {
	Op    CursorOp
	Index uint64 // of OpMove
	Name  string // at most 255 bytes
}

// A CursorOp is what is to be done with a cursor. Numbers are not used again.
type CursorOp uint8

// What can be done with a cursor.
const (
	OpRead CursorOp = iota + 1
	OpMove
	OpDrop
)

// A CursorAnswer says what has become of it. Outcome Made is that it is done.
type CursorAnswer struct {
	Outcome Outcome
	Index   uint64 // of OpRead; 0: there is no such cursor
	Text    string // of a refusal; at most 255 bytes
}

// Messages of cursors; numbers are big-endian. What follows is a later version's, and is let be.
//
//	request  1, uint8 what, uint64 index, uint8 length, name
//	answer   2, uint8 outcome, uint64 index, uint8 length, text
const (
	cursorRequest = 1
	cursorAnswer  = 2
	cursorHead    = 1 + 1 + 8 + 1

	// MaxCursor bounds either message, in bytes.
	MaxCursor = 1 << 10
)

// Encode returns the message of a request. It fails where the name is too long.
func (r CursorRequest) Encode() ([]byte, error) {
	if len(r.Name) > 255 {
		return nil, fmt.Errorf("%w: a name of %d bytes", ErrMalformed, len(r.Name))
	}
	return encodeCursor(cursorRequest, byte(r.Op), r.Index, r.Name), nil
}

// ParseCursorRequest reads a request.
func ParseCursorRequest(b []byte) (r CursorRequest, err error) {
	op, index, name, err := parseCursor(cursorRequest, b)
	return CursorRequest{CursorOp(op), index, name}, err
}

// Encode returns the message of an answer.
func (a CursorAnswer) Encode() []byte {
	return encodeCursor(cursorAnswer, byte(a.Outcome), a.Index, a.Text[:min(len(a.Text), 255)])
}

// ParseCursorAnswer reads an answer.
func ParseCursorAnswer(b []byte) (a CursorAnswer, err error) {
	outcome, index, text, err := parseCursor(cursorAnswer, b)
	return CursorAnswer{Outcome(outcome), index, text}, err
}

func encodeCursor(kind, what byte, index uint64, text string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kind, what}, index)
	return append(append(b, byte(len(text))), text...)
}

func parseCursor(kind byte, b []byte) (what byte, index uint64, text string, err error) {
	if len(b) < cursorHead || b[0] != kind || len(b) < cursorHead+int(b[cursorHead-1]) {
		return 0, 0, "", fmt.Errorf("%w: %d bytes are no message about a cursor", ErrMalformed, len(b))
	}
	return b[1], binary.BigEndian.Uint64(b[2:]), string(b[cursorHead : cursorHead+int(b[cursorHead-1])]), nil
}
