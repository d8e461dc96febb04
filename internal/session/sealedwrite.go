package session

import (
	"encoding/binary"
	"iter"
)

// Sealed is a message for [Stream.Recv] in two pieces. Body must have a checksum that the other side verifies: it gets none here (see
// sealedread.go). Head, which is not empty, is as any other data.
type Sealed struct{ Head, Body []byte }

// atOnce is how much of sealed messages is written at a time, in bytes: with half of it a fast path rests between two of them.
const atOnce = 512 << 10

// fewSealed is how much is copied so that it leaves together with what others are given, in bytes (Stream.Together).
const fewSealed = 64 << 10

func (s Sealed) size() int { return prefixSize + len(s.Head) + len(s.Body) }

// SendSealed sends messages. Where nobody else writes their bodies go from where they are to the kernel; with TLS, and beside others who write, they are
// copied. All is the caller's again when it returns, and must not be written to before.
func (st *Stream) SendSealed(msgs ...Sealed) error {
	s := sealing{msgs: msgs}
	rest := 0
	for _, msg := range msgs {
		rest += msg.size()
	}
	direct := !st.lazy || rest > fewSealed
	for rest > 0 {
		n, _, err := st.claim(min(rest, atOnce))
		if err == nil && !(direct && st.sealNow(&s, n)) {
			err = st.sealCopied(&s, n)
		}
		if err != nil {
			return err
		}
		st.sent.Add(uint64(n))
		rest -= n
	}
	return nil
}

// A sealing is how far messages have been sent.
type sealing struct {
	msgs []Sealed
	at   int // in the first of them, its length included
	head []byte
}

// next yields the next n bytes, in pieces that are valid until the next, and whether each is sealed.
func (s *sealing) next(n int) iter.Seq2[[]byte, bool] {
	return func(yield func([]byte, bool) bool) {
		for n > 0 {
			msg := s.msgs[0]
			s.head = append(binary.BigEndian.AppendUint32(s.head[:0], uint32(len(msg.Head)+len(msg.Body))), msg.Head...)
			b, sealed := s.head[min(s.at, len(s.head)):], false
			if len(b) == 0 {
				b, sealed = msg.Body[s.at-len(s.head):], true
			}
			most := maxChunk
			if sealed {
				most = maxSealed
			}
			b = b[:min(n, len(b), most)]
			if n, s.at = n-len(b), s.at+len(b); s.at == msg.size() {
				s.msgs, s.at = s.msgs[1:], 0
			}
			if !yield(b, sealed) {
				return
			}
		}
	}
}

// sealNow writes the next n bytes from where they are, and waits until the kernel has them, if nobody else writes or waits for a turn;
// otherwise it reports false.
func (st *Stream) sealNow(s *sealing, n int) bool {
	m := st.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now == nil || m.busy || m.failed != nil || len(m.rest) > 0 || len(m.queue) > 0 || m.err != nil || st.told {
		return false
	}
	m.busy = true
	first, out := m.takeLocked()
	m.mu.Unlock()
	pieces, heads := append(m.pieces[:0], first, out), m.heads[:0]
	for b, sealed := range s.next(n) {
		at := len(heads)
		if !sealed {
			heads = AppendFrame(heads, KindData, st.id, b)
			pieces = append(pieces, heads[at:])
			continue
		}
		heads = appendSealedHead(heads, st.id, len(b))
		pieces = append(pieces, heads[at:], b)
	}
	m.pieces, m.heads = pieces, heads
	m.c.Counts.Sent.Add(uint64(n))
	err := m.l.sendAll(pieces, m.c.WriteTimeout)
	clear(pieces)
	m.mu.Lock()
	m.busy, m.failed = false, err
	if err != nil || m.waitsLocked() {
		Signal(m.wake)
	}
	return true
}

// sealCopied puts the next n bytes into out.
func (st *Stream) sealCopied(s *sealing, n int) error {
	m := st.m
	for n > 0 {
		if err := st.enter(); err != nil {
			return err
		}
		some := min(n, fewSealed)
		for b, sealed := range s.next(some) {
			switch {
			case m.err != nil || st.told:
			case sealed:
				m.sealLocked()
				m.out = append(appendSealedHead(m.out, st.id, len(b)), b...)
				m.c.Counts.Sent.Add(uint64(len(b)))
			default:
				m.dataLocked(st.id, b)
			}
		}
		n -= some
		st.leave(n == 0)
	}
	return nil
}

// appendSealedHead appends the header of a sealed frame.
func appendSealedHead(b []byte, id uint64, n int) []byte {
	var h [HeaderSize]byte
	PutHeader(h[:], KindSealed, id, n, 0)
	return append(b, h[:]...)
}
