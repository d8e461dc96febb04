package transport

import (
	"net"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/sum"

	"go.etcd.io/raft/v3/raftpb"
)

// apartSize is how large data of an entry is, in bytes, that is not copied: to copy less costs less than to write it as a piece of its own.
const apartSize = 4 << 10

// A train is frames of messages that are written together. It may leave large data of their entries where it is, in the log's memory. Whoever
// writes to that is found out by the receiver.
type train struct {
	b     []byte // what was not left
	left  []left
	size  int         // of all
	room  net.Buffers // for the pieces
	apart bool        // large data is left
}

// left is data that belongs before a byte of a train's b.
type left struct {
	at   int
	data []byte
}

// add appends a message as the frame with this number.
func (t *train) add(group uint64, number uint16, m *raftpb.Message) error {
	at := len(t.b)
	if !t.apart {
		b, err := appendMessage(t.b, session.KindMessage, group, nil, m)
		if err != nil {
			return err
		}
		t.b = b
	} else if err := t.addApart(group, m); err != nil {
		return err
	}
	session.NumberFrame(t.b[at:], number)
	t.size += len(t.b) - at
	return nil
}

func (t *train) addApart(group uint64, m *raftpb.Message) error {
	at, first := len(t.b), len(t.left)
	b, err := encodeMessage(append(t.b, make([]byte, session.HeaderSize)...), m, t)
	if err != nil {
		return err
	}
	total, summed, size := uint32(0), at+session.HeaderSize, 0
	for _, l := range t.left[first:] {
		total = sum.After(sum.Update(total, b[summed:l.at]), l.data)
		summed, size = l.at, size+len(l.data)
	}
	total = sum.Update(total, b[summed:])
	session.PutHeader(b[at:], session.KindMessage, group, len(b)-at-session.HeaderSize+size, total)
	t.b, t.size = b, t.size+size
	return nil
}

// leave takes data of an entry that is to follow b, if it is to be left.
func (t *train) leave(b, data []byte) bool {
	if t == nil || len(data) < apartSize {
		return false
	}
	t.left = append(t.left, left{len(b), data})
	return true
}

// writeTo writes the train to a connection, and waits for room.
func (t *train) writeTo(conn *session.Link) error {
	if len(t.left) == 0 {
		_, err := conn.Write(t.b)
		return err
	}
	pieces, at := t.room[:0], 0
	for _, l := range t.left {
		pieces, at = append(pieces, t.b[at:l.at], l.data), l.at
	}
	if at < len(t.b) {
		pieces = append(pieces, t.b[at:])
	}
	t.room = pieces
	_, err := pieces.WriteTo(conn.Raw)
	clear(t.room)
	return err
}

// empty makes the train ready for the next frames.
func (t *train) empty() {
	if cap(t.b) > keepBuffer {
		t.b = nil
	}
	clear(t.left)
	t.b, t.left, t.size = t.b[:0], t.left[:0], 0
}

// mayLeave reports whether a train to a connection may leave data. TLS copies it anyway, and makes records of what it is given at a time.
func mayLeave(conn *session.Link) bool { return conn.Conn == conn.Raw }
