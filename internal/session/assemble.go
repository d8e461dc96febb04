package session

import (
	"encoding/binary"
	"sync"
)

// An assembly puts the messages of a stream together where they stay, as they come. So the connection's reader and who reads the stream wait for each other only
// when there is nothing to do: with every message handed over before the next one is read, each of them rests while the other works.
type assembly struct {
	whole   []assembled // in order of arrival
	head    [prefixSize]byte
	headed  int // bytes of the head of the next one that have come
	next    assembled
	waiting bool // the reader waits for the next one, and takes what comes of it at once, unless it is larger than limit
	limit   int
	lends   bool    // the memory of a message is used again after the next Recv
	given   *[]byte // that of the last one that Recv returned; nil: none, or its own
}

// An assembled message, of which all or a part has come.
type assembled struct {
	b    []byte
	size int
	owes int     // bytes, those of the head too, that have come and were not taken by the reader yet
	lent *[]byte // what b is in, if that is used again
}

// pieces are memory for messages, of FirstPiece bytes, and half, a quarter and an eighth of that: so no message takes more than twice its size.
var pieces [4]sync.Pool

// classOf is which of them a message of n bytes goes into, -1 if it is too small to be worth it, or too large.
func classOf(n int) int {
	for i := range pieces {
		if size := FirstPiece >> i; n <= size && n > size/2 {
			return i
		}
	}
	return -1
}

// lendPiece returns memory for a message, nil if it is to have its own.
func lendPiece(n int) *[]byte {
	i := classOf(n)
	if i < 0 {
		return nil
	}
	if piece, ok := pieces[i].Get().(*[]byte); ok {
		return piece
	}
	piece := make([]byte, FirstPiece>>i)
	return &piece
}

// returnPiece has memory used again.
func returnPiece(piece *[]byte) {
	if piece != nil {
		pieces[classOf(len(*piece))].Put(piece)
	}
}

// Assemble has the messages that come put together as they come, from now on, as many as the window holds. It is for who only calls Recv, before
// the first time. With lends a message is the caller's only until the next Recv: then its memory is used again, also by other streams.
func (st *Stream) Assemble(lends bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	come := make([]byte, st.in.n)
	st.in.read(come)
	st.in, st.asm = ring{}, &assembly{lends: lends}
	st.assembleLocked(come)
}

// assembleLocked takes bytes that have come.
func (st *Stream) assembleLocked(b []byte) {
	for a := st.asm; len(b) > 0; {
		n := copy(a.head[a.headed:], b)
		if a.headed += n; n > 0 && a.headed == prefixSize {
			a.next.size = int(binary.BigEndian.Uint32(a.head[:]))
		}
		body := copy(a.room(), b[n:])
		st.placedLocked(n, body)
		b = b[n+body:]
	}
}

// room is where what comes of the next message goes. No more is allocated than [FirstPiece], or twice what has come.
func (a *assembly) room() []byte {
	m := &a.next
	if a.lends && m.b == nil {
		if m.lent = lendPiece(m.size); m.lent != nil {
			m.b = (*m.lent)[:0:m.size]
		}
	}
	if len(m.b) == cap(m.b) && len(m.b) < m.size {
		m.b = append(make([]byte, 0, min(m.size, max(2*len(m.b), FirstPiece))), m.b...)
	}
	return m.b[len(m.b):cap(m.b)]
}

// placedLocked takes note of what has come of the next message and is in its place, of its head and of its body.
func (st *Stream) placedLocked(head, body int) {
	a := st.asm
	m, waited := &a.next, a.waiting
	m.b = m.b[:len(m.b)+body]
	m.owes += head + body
	if a.waiting = waited && m.size <= a.limit; a.waiting {
		st.takenLocked(m.owes)
		m.owes = 0
	}
	if a.headed == prefixSize && len(m.b) == m.size {
		a.whole = append(a.whole, *m)
		a.next, a.headed, a.waiting = assembled{}, 0, false
	}
	if waited && !a.waiting {
		Signal(st.readable)
	}
}

// recvAssembled is Recv of a stream whose messages are put together as they come.
func (st *Stream) recvAssembled(limit int) ([]byte, error) {
	st.mu.Lock()
	returnPiece(st.asm.given)
	st.asm.given = nil
	for a := st.asm; ; {
		m := a.next
		if len(a.whole) > 0 {
			m = a.whole[0]
		}
		switch err := st.overLocked(a.headed == 0); {
		case uint64(m.size) > uint64(limit):
			st.mu.Unlock()
			return nil, st.tooLarge(uint64(m.size), limit)
		case len(a.whole) > 0:
			a.whole[0] = assembled{}
			a.whole, a.given = a.whole[1:], m.lent
			st.takenLocked(m.owes)
			st.returnLocked()
			st.mu.Unlock()
			return m.b, nil
		case err != nil:
			st.mu.Unlock()
			return nil, err
		}
		a.waiting, a.limit = true, limit
		st.takenLocked(m.owes)
		a.next.owes = 0
		st.mu.Unlock()
		<-st.readable
		st.mu.Lock()
		a.waiting = false
	}
}
