package wire

import (
	"encoding/binary"
	"fmt"
)

// Messages of calls; numbers are big-endian. Many calls share a stream, and are answered in any order.
//
//	request  1 asks for a session, 2 is a call; uint64 tag, which the reply has too; uint64 epoch and uint64 number of the session,
//	         uint64 number of the call in it, uint64 below which number all calls are answered, uint64 ns that the caller waits,
//	         0 for any time; bytes
//	reply    uint64 tag, uint16 code, uint32 code of the program, uint64 index; who is Active: uint8 length, name, uint16 length, address,
//	         uint16 length, where its program is reached; bytes: the answer, of a session epoch and number, uint64 each, or a text

// KindCall is the kind of streams on which the Active is called, by members, clients and operators.
const KindCall = "call"

// What a [Request] is for.
const (
	OpSession = 1
	OpCall    = 2
)

// Session names a session: the epoch of the Active that gave it out, and its place among those.
type Session struct{ Epoch, Number uint64 }

// Request asks for a session, or is a call.
type Request struct {
	Op      byte
	Tag     uint64
	Session Session
	Number  uint64
	Done    uint64 // all calls below are answered, and not repeated
	Timeout uint64 // ns, 0: none
	Data    []byte
}

// CallCode says what became of a call. The numbers are never used again.
type CallCode uint16

// The codes. After those that are marked so, the call may be repeated under the same number.
const (
	CallDone       CallCode = iota
	CallNotActive           // not taken: this member is not Active. Repeat it there
	CallBusy                // not taken: there are too many
	CallNoRoom              // not taken: there is no room on the disk
	CallTooLarge            // not taken, and never will be
	CallRefused             // the program has refused it; the text and the code are its own
	CallUnknown             // it may have taken effect or not. Repeat it to learn that
	CallExpired             // it may have taken effect or not, and nobody knows any more: its session has expired
	CallAnswerLost          // it has taken effect, and the answer is not known any more
	CallMalformed           // the request is none
)

// Reply says what became of a request.
type Reply struct {
	Tag                     uint64
	Code                    CallCode
	Own                     uint32 // code of the program
	Index                   uint64 // of the record that a call without a handler has become
	Active, Addr, Advertise string // who is Active, as far as the member knows
	Body                    []byte // the answer, or a text
}

const (
	replyHead = 8 + 2 + 4 + 8
	callHead  = CallHead

	// CallHead is how many bytes of a request stand before its data.
	CallHead = 1 + 6*8

	// MaxCall bounds the bytes of a call, and of an answer.
	MaxCall = 32 << 20
	// MaxCallMessage bounds a message of calls.
	MaxCallMessage = MaxCall + replyHead + callHead + 5 + 255 + 2*65535
)

// AppendMessage appends a request as a message of a stream: its length, and itself.
func (q *Request) AppendMessage(b []byte) []byte {
	b = append(binary.BigEndian.AppendUint32(b, uint32(callHead+len(q.Data))), q.Op)
	for _, v := range [...]uint64{q.Tag, q.Session.Epoch, q.Session.Number, q.Number, q.Done, q.Timeout} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return append(b, q.Data...)
}

// ParseRequest reads a request. Its data are b's.
func ParseRequest(b []byte) (q Request, err error) {
	if len(b) < callHead || b[0] != OpSession && b[0] != OpCall {
		return q, fmt.Errorf("%w: %d bytes are no call", ErrMalformed, len(b))
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(b[1+8*i:]) }
	return Request{Op: b[0], Tag: word(0), Session: Session{word(1), word(2)}, Number: word(3), Done: word(4), Timeout: word(5), Data: b[callHead:]}, nil
}

// AppendMessage appends a reply as a message of a stream. What is too long for its field is cut.
func (r *Reply) AppendMessage(b []byte) []byte {
	be := binary.BigEndian
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = be.AppendUint64(b, r.Tag)
	b = be.AppendUint16(b, uint16(r.Code))
	b = be.AppendUint32(b, r.Own)
	b = be.AppendUint64(b, r.Index)
	name := r.Active[:min(len(r.Active), 255)]
	b = append(append(b, byte(len(name))), name...)
	for _, s := range [...]string{r.Addr, r.Advertise} {
		s = s[:min(len(s), 65535)]
		b = append(be.AppendUint16(b, uint16(len(s))), s...)
	}
	b = append(b, r.Body...)
	be.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// ParseReply reads a reply. Its body is b's.
func ParseReply(b []byte) (r Reply, err error) {
	be := binary.BigEndian
	if len(b) < replyHead {
		return r, fmt.Errorf("%w: %d bytes are no reply", ErrMalformed, len(b))
	}
	r = Reply{Tag: be.Uint64(b), Code: CallCode(be.Uint16(b[8:])), Own: be.Uint32(b[10:]), Index: be.Uint64(b[14:])}
	b = b[replyHead:]
	for i, s := range [...]*string{&r.Active, &r.Addr, &r.Advertise} {
		head, n := 2, 0
		if i == 0 {
			head = 1
		}
		if len(b) >= head {
			if n = int(b[0]); head == 2 {
				n = int(be.Uint16(b))
			}
		}
		if len(b) < head+n {
			return Reply{}, fmt.Errorf("%w: a reply ends too early", ErrMalformed)
		}
		*s, b = string(b[head:head+n]), b[head+n:]
	}
	r.Body = b
	return r, nil
}

// Append appends a session as the answer to who has asked for one.
func (s Session) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, s.Epoch), s.Number)
}

// ParseSession reads the answer to who has asked for a session.
func ParseSession(b []byte) (Session, error) {
	if len(b) != 16 {
		return Session{}, fmt.Errorf("%w: %d bytes are no session", ErrMalformed, len(b))
	}
	return Session{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}
