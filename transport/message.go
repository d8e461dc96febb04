package transport

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxEntries bounds what decoding may allocate: an empty entry is 2 bytes on the wire and 120 in memory.
	maxEntries = 1 << 18
	// maxControl bounds one control message.
	maxControl = 64 << 10
	// maxEmptySnapshot bounds the empty snapshot that older versions of raft put into every message.
	maxEmptySnapshot = 15
)

// laneOf says which connection a message travels on; false: it is not for the wire. That are raft's local messages, and
// MsgProp and MsgForgetLeader, which baton does not forward.
func laneOf(t raftpb.MessageType) (Purpose, bool) {
	switch t {
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgVote, raftpb.MsgVoteResp,
		raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgTimeoutNow, raftpb.MsgTransferLeader:
		return PurposeControl, true
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgReadIndex, raftpb.MsgReadIndexResp:
		return PurposeBulk, true
	case raftpb.MsgSnap:
		return PurposeSnapshot, true
	}
	return 0, false
}

// appendMessage appends a frame of the message, with prefix before it in the body.
func appendMessage(b []byte, k session.Kind, group uint64, prefix []byte, m *raftpb.Message) ([]byte, error) {
	at := len(b)
	b = slices.Grow(b, session.HeaderSize+len(prefix)+messageSize(m))
	b = append(b[:at+session.HeaderSize], prefix...)
	out, err := encodeMessage(b, m, nil)
	if err != nil {
		return b[:at], err
	}
	sum, _ := sumBody(out[at+session.HeaderSize:], believed)
	session.PutHeader(out[at:], k, group, len(out)-at-session.HeaderSize, sum)
	return out, nil
}

// decodeMessage decodes and checks a message that came from peer `from` for us, on a connection of the given purpose. Of
// an owned frame the message's bytes are the frame's; with another it shares nothing.
func decodeMessage(f session.Frame, purpose Purpose, from, to uint64) (*raftpb.Message, error) {
	in, err := inspect(f.Body, purpose)
	if err != nil {
		return nil, err
	}
	var m *raftpb.Message
	if in.snapshot {
		m = new(raftpb.Message)
		err = proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: 16}.Unmarshal(f.Body, m)
	} else {
		body := f.Body
		if in.bytes && !f.Owned {
			body = bytes.Clone(body)
		}
		m, err = decodePlain(body, in.entries)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", session.ErrFrame, err)
	}
	if lane, ok := laneOf(m.GetType()); !ok || lane != purpose {
		return nil, fmt.Errorf("%w: %v on a %v connection", session.ErrFrame, m.GetType(), purpose)
	}
	if m.GetFrom() != from || m.GetTo() != to {
		return nil, fmt.Errorf("%w: %v from %x to %x on a connection from %x to %x", session.ErrFrame, m.GetType(), m.GetFrom(), m.GetTo(), from, to)
	}
	return m, nil
}

// inventory is what decoding a message needs to know before.
type inventory struct {
	entries  int
	bytes    bool // has fields that would alias the body
	snapshot bool
}

// inspect walks the fields of an encoded message, and finds those that would make decoding costly. Entries are counted
// before any is decoded, so that all of them are allocated at once.
func inspect(body []byte, purpose Purpose) (inventory, error) {
	var in inventory
	for len(body) > 0 {
		var f field
		var err error
		if f, body, err = nextField(body); err != nil {
			return in, fmt.Errorf("%w: %w", session.ErrFrame, err)
		}
		if f.num == fieldResponses {
			return in, fmt.Errorf("%w: message with responses", session.ErrFrame)
		}
		if f.typ != protowire.BytesType {
			continue
		}
		switch f.num {
		case fieldSnapshot:
			if purpose != PurposeSnapshot && len(f.data) > maxEmptySnapshot {
				return in, fmt.Errorf("%w: snapshot on a %v connection", session.ErrFrame, purpose)
			}
			in.snapshot = true
		case fieldEntries:
			if in.entries++; in.entries > maxEntries {
				return in, fmt.Errorf("%w: more than %d entries", session.ErrFrame, maxEntries)
			}
			in.bytes = true
		case fieldContext:
			in.bytes = true
		}
	}
	return in, nil
}
