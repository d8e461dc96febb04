package storage

import (
	"maps"
	"testing"
)

// TestG7_Birth: a new member is unborn until it is born, for good, and a directory from before there was a birth is born.
func TestG7_Birth(t *testing.T) {
	dir := t.TempDir()
	o := Options{Identity: Identity{Cluster: "test", Member: "a", ID: 1, Incarnation: 11}, Unborn: true}
	open := func(o Options) *WAL {
		t.Helper()
		w, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	is := func(w *WAL, wantBorn bool, want map[string]uint64) {
		t.Helper()
		if together, born := w.Birth(); born != wantBorn || !maps.Equal(together, want) {
			t.Errorf("born %v with %v", born, together)
		}
	}
	together := map[string]uint64{"a": 11, "b": 2, "c": 3}
	w := open(o)
	is(w, false, nil)
	w.Close()
	w = open(o)
	is(w, false, nil)
	if err := w.Bear(together, map[string]uint64{"b": 2, "c": 3}); err != nil {
		t.Fatal(err)
	}
	is(w, true, together)
	w.Close()
	w = open(o)
	is(w, true, together)
	if got := w.Peers(); !maps.Equal(got, map[string]uint64{"b": 2, "c": 3}) {
		t.Errorf("met %v", got)
	}
	w.Close()

	dir, o.Unborn = t.TempDir(), false
	w = open(o)
	is(w, true, nil) // as its file says nothing of it
	w.Close()
}
