package wire

import (
	"encoding/binary"
	"fmt"
)

// A Change asks for a change of the list of the members.
type Change struct {
	Op        ChangeOp
	Kind      uint8
	Priority  int32
	Name      string // this and the others at most MaxChangeText bytes
	Addr      string
	Advertise string
}

// A ChangeOp is what is to be done. Numbers are not used again.
type ChangeOp uint8

// What can be asked for.
const (
	OpAdd ChangeOp = iota + 1
	OpRemove
	OpPromote
	OpDemote
	OpAddr
	OpPriority
	OpAdvertise
	OpReplace
)

// A ChangeAnswer says what has become of it.
type ChangeAnswer struct {
	Outcome Outcome
	Reason  uint16 // of a refusal
	Text    string // what is missing; at most MaxChangeDetail bytes, cut by who says it
}

// An Outcome is how a change has ended.
type Outcome uint8

// The outcomes.
const (
	Made    Outcome = iota + 1
	Refused         // it is not made and will not be
	Moved           // nor was anything tried: who was asked does not lead
	Unknown         // it may be made, or may be yet
)

// Bounds in bytes.
const (
	MaxChangeText   = 255
	MaxChangeDetail = 8 << 10
	MaxChange       = MaxChangeDetail + 64 // of a message
)

// Messages of a change, one in each direction; numbers are big-endian. What follows is a later version's, and is let be.
//
//	request  1, uint8 what, uint8 kind, int32 priority, and for each of name, address and advertised address: uint8 length, bytes
//	answer   2, uint8 outcome, uint16 reason, uint16 length, text
const (
	changeRequest = 1
	changeAnswer  = 2

	changeRequestHead = 1 + 1 + 1 + 4
	changeAnswerHead  = 1 + 1 + 2 + 2
)

// Encode returns the message of a request. It fails where a text is too long.
func (c Change) Encode() ([]byte, error) {
	b := binary.BigEndian.AppendUint32([]byte{changeRequest, byte(c.Op), c.Kind}, uint32(c.Priority))
	for _, text := range [...]string{c.Name, c.Addr, c.Advertise} {
		if len(text) > MaxChangeText {
			return nil, fmt.Errorf("%w: a name or an address is longer than %d bytes", ErrMalformed, MaxChangeText)
		}
		b = append(append(b, byte(len(text))), text...)
	}
	return b, nil
}

// ParseChange reads a request.
func ParseChange(b []byte) (Change, error) {
	malformed := fmt.Errorf("%w: %d bytes are no change of the members", ErrMalformed, len(b))
	if len(b) < changeRequestHead || b[0] != changeRequest {
		return Change{}, malformed
	}
	c := Change{Op: ChangeOp(b[1]), Kind: b[2], Priority: int32(binary.BigEndian.Uint32(b[3:]))}
	b = b[changeRequestHead:]
	for _, text := range [...]*string{&c.Name, &c.Addr, &c.Advertise} {
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return Change{}, malformed
		}
		size := 1 + int(b[0])
		*text, b = string(b[1:size]), b[size:]
	}
	return c, nil
}

// Encode returns the message of an answer.
func (a ChangeAnswer) Encode() []byte {
	text := a.Text[:min(len(a.Text), MaxChangeDetail)]
	b := binary.BigEndian.AppendUint16([]byte{changeAnswer, byte(a.Outcome)}, a.Reason)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
}

// ParseChangeAnswer reads an answer.
func ParseChangeAnswer(b []byte) (ChangeAnswer, error) {
	if len(b) < changeAnswerHead || b[0] != changeAnswer || len(b) < changeAnswerHead+int(binary.BigEndian.Uint16(b[4:])) {
		return ChangeAnswer{}, fmt.Errorf("%w: %d bytes are no answer to a change of the members", ErrMalformed, len(b))
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	return ChangeAnswer{Outcome: Outcome(b[1]), Reason: binary.BigEndian.Uint16(b[2:]), Text: string(b[changeAnswerHead : changeAnswerHead+size])}, nil
}
