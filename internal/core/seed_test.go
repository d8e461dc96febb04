package core

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// An epoch that is leapt to is in force as one that was opened; what was proposed in those before it does not count, and no leap
// goes back.
func TestLeap(t *testing.T) {
	pos := Position{Raft: 5, Index: 3, Epochs: []Epoch{{Epoch: 7, Holder: "b", Term: 2, Raft: 2, First: 1}}}
	if err := pos.Walk([]*raftpb.Entry{Leap(6, 3, "a", 100)}); err != nil {
		t.Fatal(err)
	}
	if got, want := pos.Epoch(), (Epoch{Epoch: 100, Holder: "a", Term: 3, Raft: 6, First: 4}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	start := &raftpb.Entry{Index: new(uint64(7)), Term: new(uint64(4)), Data: EncodeStart("a", nil)}
	if err := pos.Walk([]*raftpb.Entry{start}); err != nil || pos.Epoch().Epoch != 101 {
		t.Errorf("the next is %+v, %v", pos.Epoch(), err)
	}
	for _, epoch := range []uint64{0, 7, 101} {
		if err := pos.Walk([]*raftpb.Entry{Leap(8, 4, "a", epoch)}); !errors.Is(err, ErrFormat) {
			t.Errorf("a leap to %d: %v", epoch, err)
		}
		pos.Raft = 7
	}
}

// Of another cluster's log only what is about members is taken out, and nothing moves.
func TestPlain(t *testing.T) {
	at := func(typ raftpb.EntryType, data []byte) *raftpb.Entry {
		return &raftpb.Entry{Index: new(uint64(9)), Term: new(uint64(4)), Type: &typ, Data: data}
	}
	for _, e := range []*raftpb.Entry{at(raftpb.EntryNormal, nil), at(raftpb.EntryNormal, EncodeStart("a", nil)), at(raftpb.EntryNormal, []byte{kindBatch, 1})} {
		if Plain(e) != e {
			t.Errorf("%v is changed", e)
		}
	}
	for _, e := range []*raftpb.Entry{at(raftpb.EntryConfChangeV2, []byte{1}), at(raftpb.EntryNormal, []byte{kindMembers, 1})} {
		if p := Plain(e); p.GetIndex() != 9 || p.GetTerm() != 4 || p.GetType() != raftpb.EntryNormal || len(p.GetData()) > 0 {
			t.Errorf("%v becomes %v", e, p)
		}
	}
}
