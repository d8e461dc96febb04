package core

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// FuzzContext: whatever another member puts into the Context of a message, reading it is no panic, and what is taken for a vow or a
// stamp is what was written as one.
func FuzzContext(f *testing.F) {
	f.Add(int32(raftpb.MsgHeartbeat), beat(7, true, false))
	f.Add(int32(raftpb.MsgHeartbeatResp), vow{stamp: 7, length: 5, drift: 0.01, guarded: true, wants: 9}.encode())
	f.Add(int32(raftpb.MsgVote), withStamp(campaignTransfer, 7))
	f.Add(int32(raftpb.MsgTimeoutNow), withStamp(nil, 7))
	f.Fuzz(func(t *testing.T, kind int32, context []byte) {
		m := &raftpb.Message{Type: raftpb.MessageType(kind).Enum(), Context: context}
		stamp := stampOf(m)
		_, _ = isForced(m), releasedBy(m)
		if kind := m.GetType(); stamp != 0 && (kind == raftpb.MsgHeartbeat || kind == raftpb.MsgHeartbeatResp) {
			if again := beat(stamp, deniesEvidence(m), ofDeaf(m)); stampOf(&raftpb.Message{Type: m.Type, Context: again}) != stamp {
				t.Errorf("%x is read as stamp %d", context, stamp)
			}
		}
		v := vowOf(m)
		if v.stamp == 0 || v.drift != v.drift { // there is none, or its drift is no number and equals nothing
			return
		}
		if got := vowOf(&raftpb.Message{Context: v.encode()}); got != v {
			t.Errorf("%x is read as %+v, and then as %+v", context, v, got)
		}
		le := lease{timing: partTiming}
		le.heard(2, le.echoOf(v))
	})
}

// FuzzCheckpoint: the header of a snapshot that another member sends is one that can be written again, or refused.
func FuzzCheckpoint(f *testing.F) {
	p := Position{Raft: 5, Index: 2, Epochs: []Epoch{{Epoch: 1, Holder: "a", Raft: 3, First: 1}}, Cursors: []Cursor{{Name: "r", Index: 1}}}
	f.Add(uint64(5), NewSnapshot(2, Checkpoint{Position: p, State: StateOf}).GetData())
	f.Add(uint64(0), NewSnapshot(1, Checkpoint{}).GetData())
	f.Fuzz(func(t *testing.T, index uint64, data []byte) {
		c, err := ParseCheckpoint(&raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(1))}})
		if err != nil {
			return
		}
		again, err := ParseCheckpoint(NewSnapshot(1, c))
		if err != nil || again.Position.Index != c.Position.Index || len(again.Position.Epochs) != len(c.Position.Epochs) || again.State != c.State {
			t.Errorf("%x is read as %+v, and then as %+v, %v", data, c, again, err)
		}
	})
}
