package core

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A caller who does not know what became of a request asks again. So that the request takes effect once (G10) it has an id: a session, and
// a number in it. Which requests have taken effect, and what was answered to them, is replicated state: every member keeps it
// from what it applies, and it is part of every checkpoint (Raft, section 6.3; Liskov's at-most-once tables).
//
// Whether a request is new is decided when it is proposed, by the Active: it has applied everything of earlier epochs, and it knows
// what it has proposed itself, so it sees all that can ever take effect before the request does.
//
// Invariant: the table depends on the log alone. What is forgotten, and when, follows from the order of the requests in it.

// A SessionID names a session: the epoch of the Active that has given it out, and its place among those. It costs nobody anything until a
// request of it is applied.
type SessionID struct {
	Epoch, Number uint64
}

// before reports whether s was given out before o.
func (s SessionID) before(o SessionID) bool {
	return s.Epoch < o.Epoch || s.Epoch == o.Epoch && s.Number < o.Number
}

// A RequestID names a request.
type RequestID struct {
	Session SessionID
	Number  uint64 // 1, 2, 3 …, in the order in which the caller has made them up
	Done    uint64 // the caller has the answers to all requests below, and asks for none of them again
}

// An Outcome is what became of a request that has taken effect.
type Outcome struct {
	Index   uint64   // of its first record
	Answers [][]byte // of the state machine, one to each record, if it answers
	Lost    bool     // they were too large to be kept, or those of the session were together
}

// ErrSessionExpired says of a request that nobody knows any more whether it has taken effect: its session is not among those that are
// kept, or its number is too old.
var ErrSessionExpired = errors.New("baton: the session has expired")

// Bounds of what is kept of sessions. They are part of the replicated state machine: all members must have the same.
const (
	maxSessions     = 16384
	maxSessionsSize = 4 << 20   // bytes of all
	maxSessionSize  = 256 << 10 // bytes of the answers of one
	maxKept         = 64 << 10  // bytes of the answers to one request

	// SessionWindow is how many requests of a session can be open at a time: a number that is so far behind another is too old.
	SessionWindow = 4096

	sessionSize = 128 // bytes, about, that a session takes, and an outcome beside its answers
	outcomeSize = 96
)

// Sessions is the table. The zero value is that of a new cluster. It is owned by whoever applies.
type Sessions struct {
	byID    map[SessionID]*session
	oldest  *session  // that was used least lately; nil: there is none
	latest  *session  // that was used last
	expired SessionID // what is not in the table and up to here has expired
	size    int
}

type session struct {
	id           SessionID
	floor        uint64 // requests below are forgotten
	outcomes     Numbers[Outcome]
	answers      int    // bytes of
	losing       uint64 // whose answers were given up last, for their size
	older, newer *session
}

// Len returns how many sessions there are.
func (t *Sessions) Len() int { return len(t.byID) }

// Size returns how many bytes they and the answers that are kept take, as their bound counts them.
func (t *Sessions) Size() int { return t.size }

// Look returns what became of a request: known if it has taken effect, else it is new. The error is [ErrSessionExpired].
func (t *Sessions) Look(id RequestID) (out Outcome, known bool, err error) {
	s := t.find(id.Session)
	switch {
	case id.Number == 0:
		return out, false, fmt.Errorf("%w: requests have numbers from 1 on", ErrSessionExpired)
	case s == nil && !t.expired.before(id.Session):
		return out, false, fmt.Errorf("%w: it was not used for long", ErrSessionExpired)
	case s == nil:
		return out, false, nil
	case id.Number < s.floor:
		return out, false, fmt.Errorf("%w: the answer to request %d was given, or those of %d later ones were", ErrSessionExpired, id.Number, SessionWindow)
	}
	out, known = s.outcomes.Get(id.Number)
	return out, known, nil
}

// find returns a session, nil if it is not there.
func (t *Sessions) find(id SessionID) *session {
	if s := t.latest; s != nil && s.id == id { // mostly
		return s
	}
	return t.byID[id]
}

// Apply takes note of a request that takes effect.
func (t *Sessions) Apply(id RequestID, out Outcome) {
	s := t.find(id.Session)
	if s == nil {
		if !t.expired.before(id.Session) {
			return // it has expired while the request was under way, and stays so
		}
		s = &session{id: id.Session}
		if t.byID == nil {
			t.byID = map[SessionID]*session{}
		}
		t.byID[s.id] = s
		t.size += sessionSize
		t.link(s)
	} else if s != t.latest {
		t.unlink(s)
		t.link(s)
	}
	floor := max(s.floor, id.Done)
	if id.Number >= SessionWindow {
		floor = max(floor, id.Number-SessionWindow+1)
	}
	if floor > s.floor {
		t.forget(s, floor)
	}
	if id.Number >= s.floor {
		t.keep(s, id.Number, out)
	}
	for len(t.byID) > maxSessions || t.size > maxSessionsSize {
		t.expire(t.oldest)
	}
}

// keep keeps an outcome.
func (t *Sessions) keep(s *session, number uint64, out Outcome) {
	if size := sizeOfAnswers(out.Answers); size > maxKept {
		out.Answers, out.Lost = nil, true
	}
	if old, ok := s.outcomes.Put(number, out); ok {
		t.dropped(s, old)
	}
	size := sizeOfAnswers(out.Answers)
	s.answers += size
	t.size += outcomeSize + size
	for s.answers > maxSessionSize { // the oldest first, and never this one, which is much smaller
		if s.losing++; s.losing < s.floor || s.losing >= s.floor+SessionWindow {
			s.losing = s.floor
		}
		if o, ok := s.outcomes.Get(s.losing); ok && s.losing != number {
			size := sizeOfAnswers(o.Answers)
			s.answers -= size
			t.size -= size
			s.outcomes.Put(s.losing, Outcome{Index: o.Index, Lost: o.Lost || size > 0})
		}
	}
}

// dropped takes note that an outcome is not kept any more.
func (t *Sessions) dropped(s *session, o Outcome) {
	size := sizeOfAnswers(o.Answers)
	s.answers -= size
	t.size -= outcomeSize + size
}

// forget drops the outcomes of all requests below a number.
func (t *Sessions) forget(s *session, floor uint64) {
	s.outcomes.Cut(floor, func(o Outcome) { t.dropped(s, o) })
	s.floor = floor
}

// expire drops a session.
func (t *Sessions) expire(s *session) {
	for _, o := range s.outcomes.of {
		t.dropped(s, o.value)
	}
	t.unlink(s)
	delete(t.byID, s.id)
	t.size -= sessionSize
	if t.expired.before(s.id) {
		t.expired = s.id
	}
}

// link makes a session the one that was used last.
func (t *Sessions) link(s *session) {
	s.older, s.newer = t.latest, nil
	if t.latest == nil {
		t.oldest = s
	} else {
		t.latest.newer = s
	}
	t.latest = s
}

func (t *Sessions) unlink(s *session) {
	if s.older == nil {
		t.oldest = s.newer
	} else {
		s.older.newer = s.newer
	}
	if s.newer == nil {
		t.latest = s.older
	} else {
		s.newer.older = s.older
	}
}

func sizeOfAnswers(answers [][]byte) (size int) {
	for _, a := range answers {
		size += len(a) + 24
	}
	return size
}

// A table is laid out as (little-endian)
//
//	0   version, 1 byte
//	1   the last session that has expired: epoch, number, 8 bytes each
//	17  number of sessions, 4 bytes
//	21  per session, that which was used least lately first: epoch, number, floor, the request whose answers were given up last for their size, 8 bytes each;
//	    number of outcomes, 4 bytes; per outcome, by number: number, index, 8 bytes each; 1 if the answers are lost, 1 byte;
//	    number of answers, 4 bytes; per answer: length, 4 bytes, 2³²-1 for none; bytes
const (
	sessionsVersion = 1
	noAnswer        = 1<<32 - 1
)

// Encode returns the table as it is in a checkpoint, nil if it is that of a new cluster.
func (t *Sessions) Encode() []byte {
	if len(t.byID) == 0 && t.expired == (SessionID{}) {
		return nil
	}
	le := binary.LittleEndian
	b := append(make([]byte, 0, 64+t.size), sessionsVersion)
	id := func(s SessionID) { b = le.AppendUint64(le.AppendUint64(b, s.Epoch), s.Number) }
	id(t.expired)
	b = le.AppendUint32(b, uint32(len(t.byID)))
	for s := t.oldest; s != nil; s = s.newer {
		id(s.id)
		b = le.AppendUint64(le.AppendUint64(b, s.floor), s.losing)
		b = le.AppendUint32(b, uint32(s.outcomes.Len()))
		for _, numbered := range s.outcomes.of {
			o := numbered.value
			b = le.AppendUint64(le.AppendUint64(b, numbered.number), o.Index)
			lost := byte(0)
			if o.Lost {
				lost = 1
			}
			b = le.AppendUint32(append(b, lost), uint32(len(o.Answers)))
			for _, a := range o.Answers {
				if a == nil {
					b = le.AppendUint32(b, noAnswer)
					continue
				}
				b = append(le.AppendUint32(b, uint32(len(a))), a...)
			}
		}
	}
	return b
}

// DecodeSessions reads a table. The answers share the memory of b.
func DecodeSessions(b []byte) (t Sessions, err error) {
	if len(b) == 0 {
		return t, nil
	}
	r := fields{rest: b}
	if version := r.bytes(1); r.failed || version[0] != sessionsVersion {
		return t, fmt.Errorf("%w: the table of sessions, of %d bytes", ErrFormat, len(b))
	}
	t.expired = SessionID{r.u64(), r.u64()}
	t.byID = map[SessionID]*session{}
	for range r.u32() {
		s := &session{id: SessionID{r.u64(), r.u64()}, floor: r.u64(), losing: r.u64()}
		for range r.u32() {
			n, o := r.u64(), Outcome{Index: r.u64()}
			o.Lost = r.bytes(1)[0] == 1
			for range r.u32() {
				size := r.u32()
				if r.failed {
					break
				}
				if size == noAnswer {
					o.Answers = append(o.Answers, nil)
				} else {
					o.Answers = append(o.Answers, r.bytes(uint64(size)))
				}
			}
			if r.failed {
				break
			}
			s.outcomes.Put(n, o)
			size := sizeOfAnswers(o.Answers)
			s.answers += size
			t.size += outcomeSize + size
		}
		if r.failed {
			break
		}
		t.byID[s.id] = s
		t.size += sessionSize
		t.link(s)
	}
	if r.failed || len(r.rest) > 0 {
		return Sessions{}, fmt.Errorf("%w: the table of sessions, of %d bytes", ErrFormat, len(b))
	}
	return t, nil
}

// fields reads numbers and bytes one after the other. Behind the end there are zeros.
type fields struct {
	rest   []byte
	failed bool
}

func (f *fields) bytes(n uint64) []byte {
	if uint64(len(f.rest)) < n {
		f.rest, f.failed = nil, true
		return make([]byte, min(n, 8))
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) u64() uint64 { return binary.LittleEndian.Uint64(f.bytes(8)) }
func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.bytes(4)) }
