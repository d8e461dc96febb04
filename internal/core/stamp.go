package core

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Stamps travel in the Context of raft's messages. Raft itself echoes the Context of a heartbeat, to which
// the voter appends what it promises, and marks a forced vote by a word in it, behind which the stamp stands.

var campaignTransfer = []byte("CampaignTransfer")

func stampOf(m *raftpb.Message) int64 {
	b, want := m.GetContext(), stampBytes
	switch m.GetType() {
	case raftpb.MsgVote:
		b = bytes.TrimPrefix(b, campaignTransfer)
	case raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp:
		want = beatBytes
	}
	if len(b) != want {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b))
}

const (
	stampBytes = 8
	beatBytes  = stampBytes + 1 // of a heartbeat
)

// beat makes the Context of a heartbeat: the stamp, whether crash evidence against the leader counts, and whether it hears
// nobody, so that this is no sign of life.
func beat(stamp int64, denies, deaf bool) []byte {
	flags := byte(0)
	if denies {
		flags |= noEvidence
	}
	if deaf {
		flags |= deafLeader
	}
	return append(withStamp(make([]byte, 0, beatBytes), stamp), flags)
}

// Flags of a heartbeat.
const (
	noEvidence = 1 << iota
	deafLeader
)

// deniesEvidence reports whether a stamped heartbeat says that a refused connection says nothing about its sender.
func deniesEvidence(m *raftpb.Message) bool { return m.GetContext()[stampBytes]&noEvidence != 0 }

// ofDeaf reports whether a stamped heartbeat, or the echo of one that has not been answered yet, is that of a leader who hears
// no quorum.
func ofDeaf(m *raftpb.Message) bool { return m.GetContext()[stampBytes]&deafLeader != 0 }

// releasedBy returns up to which stamp the sender of TimeoutNow, or of a forced vote, is released.
func releasedBy(m *raftpb.Message) int64 {
	return stampOf(m)
}

func withStamp(prefix []byte, stamp int64) []byte {
	return binary.LittleEndian.AppendUint64(slices.Clip(prefix), uint64(stamp))
}

func isForced(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgVote && bytes.HasPrefix(m.GetContext(), campaignTransfer)
}

// A vow is a voter's promise as it tells it.
type vow struct {
	stamp   int64
	length  time.Duration // on the voter's clock
	drift   float64       // by which it believes that clocks may differ
	guarded bool          // it keeps what an earlier process may have promised, and cannot help in a hand-over yet
	starved bool          // it does not get to run in time
	wants   uint64        // it is an arbiter that asks for a checkpoint at this raft index or a later one; 0: it does not
}

const (
	vowGuarded = 1 << iota
	vowStarved
)

const (
	vowBytes  = stampBytes + 8 + 8 + 1
	wantBytes = vowBytes + 8
)

// encode writes the vow behind its stamp.
func (v vow) encode() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, wantBytes), uint64(v.stamp))
	b = binary.LittleEndian.AppendUint64(b, uint64(v.length))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v.drift))
	var flags byte
	if v.guarded {
		flags |= vowGuarded
	}
	if v.starved {
		flags |= vowStarved
	}
	if b = append(b, flags); v.wants > 0 {
		b = binary.LittleEndian.AppendUint64(b, v.wants)
	}
	return b
}

// vowOf reads the vow in the response to a heartbeat. A zero stamp: there is none.
func vowOf(m *raftpb.Message) vow {
	b := m.GetContext()
	if len(b) != vowBytes && len(b) != wantBytes {
		return vow{}
	}
	v := vow{
		stamp: int64(binary.LittleEndian.Uint64(b)), length: time.Duration(binary.LittleEndian.Uint64(b[8:])),
		drift: math.Float64frombits(binary.LittleEndian.Uint64(b[16:])), guarded: b[24]&vowGuarded != 0, starved: b[24]&vowStarved != 0,
	}
	if len(b) == wantBytes {
		v.wants = binary.LittleEndian.Uint64(b[vowBytes:])
	}
	return v
}
