package core

import (
	"fmt"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func TestMoveCursors(t *testing.T) {
	p := Position{Index: 10}
	move := func(moves ...CursorMove) {
		t.Helper()
		e := &raftpb.Entry{Index: new(p.Raft + 1), Term: new(uint64(1)), Data: encodeMsgpack([]byte{kindCursors}, moves)}
		if _, err := p.Next(e); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string, index uint64) CursorMove { return CursorMove{Cursor: Cursor{name, index}} }
	want := func(cursors ...Cursor) {
		t.Helper()
		if len(p.Cursors)+len(cursors) > 0 && !reflect.DeepEqual(p.Cursors, cursors) {
			t.Errorf("%v, want %v", p.Cursors, cursors)
		}
	}
	move(at("b", 3), at("a", 0))
	want(Cursor{"a", 0}, Cursor{"b", 3})
	before := p
	move(at("b", 7), at("a", 11), at("", 1))
	want(Cursor{"a", 0}, Cursor{"b", 7})
	if before.Cursors[1].Index != 3 {
		t.Error("a copy of the position has moved along")
	}
	move(at("b", 5)) // never back
	want(Cursor{"a", 0}, Cursor{"b", 7})
	for _, m := range []CursorMove{at("b", 7), at("b", 2), {Cursor: Cursor{Name: "x"}, Drop: true}} {
		if !p.Done(m) {
			t.Errorf("%+v is not done", m)
		}
	}
	for _, m := range []CursorMove{at("b", 8), at("x", 0), {Cursor: Cursor{Name: "a"}, Drop: true}} {
		if p.Done(m) {
			t.Errorf("%+v is done", m)
		}
	}
	move(CursorMove{Cursor: Cursor{Name: "a"}, Drop: true}, CursorMove{Cursor: Cursor{Name: "x"}, Drop: true})
	want(Cursor{"b", 7})
	for i := range MaxCursors {
		move(at(fmt.Sprint(i), 1))
	}
	if _, ok := p.Cursor("255"); len(p.Cursors) != MaxCursors || ok {
		t.Errorf("%d cursors", len(p.Cursors))
	}
	snap := NewSnapshot(1, Checkpoint{Version: CheckpointVersion, Position: p})
	if back, err := ParseCheckpoint(snap); err != nil || !reflect.DeepEqual(back.Position.Cursors, p.Cursors) {
		t.Errorf("in a checkpoint: %v, %v", back.Position.Cursors, err)
	}
}
