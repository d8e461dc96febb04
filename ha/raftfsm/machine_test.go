package raftfsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/baton-ha/baton/ha"
)

// fake is an FSM of which each method can be set.
type fake struct {
	apply    func(l *raft.Log) any
	snapshot func() (raft.FSMSnapshot, error)
	restored []byte
}

func (f *fake) Apply(l *raft.Log) any               { return f.apply(l) }
func (f *fake) Snapshot() (raft.FSMSnapshot, error) { return f.snapshot() }
func (f *fake) Restore(r io.ReadCloser) (err error) {
	f.restored, err = io.ReadAll(r)
	return errors.Join(err, r.Close())
}

type fakeBatch struct {
	fake
	batch func(logs []*raft.Log) []any
}

func (f *fakeBatch) ApplyBatch(logs []*raft.Log) []any { return f.batch(logs) }

type fakeSnapshot struct {
	persist  func(s raft.SnapshotSink) error
	released int
}

func (f *fakeSnapshot) Persist(s raft.SnapshotSink) error { return f.persist(s) }
func (f *fakeSnapshot) Release()                          { f.released++ }

func entries(from, n uint64) (all []ha.Entry) {
	for i := range n {
		all = append(all, ha.Entry{Index: from + i, Epoch: 7, Data: fmt.Append(nil, "d", from+i)})
	}
	return all
}

// An FSM sees each record once, in order, and says something to each.
func TestAnswer(t *testing.T) {
	var seen []string
	apply := func(l *raft.Log) any {
		seen = append(seen, fmt.Sprintf("%d %d %v %s %v %v", l.Index, l.Term, l.Type, l.Data, l.Extensions == nil, l.AppendedAt.IsZero()))
		switch l.Index % 3 {
		case 0:
			return nil
		case 1:
			return "s" + string(l.Data)
		}
		return errors.New("no")
	}
	batch := &fakeBatch{batch: func(logs []*raft.Log) (all []any) {
		for _, l := range logs {
			all = append(all, apply(l))
		}
		return all
	}}
	for _, fsm := range []raft.FSM{&fake{apply: apply}, batch} {
		seen = nil
		m := New(fsm, Config{})
		first, err := m.Answer(entries(1, 3))
		second, err2 := m.Answer(entries(4, 1))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if want := "[1 7 LogCommand d1 true true 2 7 LogCommand d2 true true 3 7 LogCommand d3 true true 4 7 LogCommand d4 true true]"; fmt.Sprint(seen) != want {
			t.Errorf("%T has seen %v, want %s", fsm, seen, want)
		}
		if got := fmt.Sprintf("%q %q", first, second); got != `["\x02sd1" "\x03no" ""] ["\x02sd4"]` || first[2] != nil {
			t.Errorf("%T answers %s", fsm, got)
		}
	}
	if answers, err := New(&fake{apply: func(*raft.Log) any { return nil }}, Config{}).Answer(entries(1, 2)); answers != nil || err != nil {
		t.Errorf("nothing to say: %v, %v", answers, err)
	}
	if answers, _ := New(&fake{apply: func(l *raft.Log) any { return l.Index }}, Config{Encode: func(r any) []byte { return fmt.Append(nil, r) }}).Answer(entries(5, 2)); fmt.Sprintf("%s", answers) != "[5 6]" {
		t.Errorf("with Encode: %s", answers)
	}
	batch.batch = func(logs []*raft.Log) []any { return make([]any, len(logs)-1) }
	if _, err := New(batch, Config{}).Answer(entries(1, 3)); err == nil || !strings.Contains(err.Error(), "2 results to 3") {
		t.Errorf("too few results: %v", err)
	}
}

// Results are kept as long as somebody may ask for them, and no longer.
func TestResults(t *testing.T) {
	m := New(&fake{apply: func(l *raft.Log) any { return l.Index }}, Config{})
	give := func(from, n uint64) {
		t.Helper()
		if _, err := m.Answer(entries(from, n)); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want ...uint64) {
		t.Helper()
		var got []uint64
		for i := range uint64(20) {
			if r, ok := m.result(i); ok {
				if r != i {
					t.Errorf("the result of %d is %v", i, r)
				}
				got = append(got, i)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("there are results of %v, want %v", got, want)
		}
	}
	give(1, 3)
	has()
	w1 := m.wait()
	give(4, 2)
	has(4, 5)
	w2 := m.wait()
	give(6, 1)
	w3 := m.wait()
	has(4, 5, 6)
	m.done(w2) // w1 still may have 4
	has(4, 5, 6)
	m.done(w1) // w3 comes after 6
	has()
	give(7, 2)
	has(7, 8)
	if err := m.Restore(strings.NewReader("")); err != nil { // in which the record of w3 may be
		t.Fatal(err)
	}
	has()
	give(12, 1)
	has(12)
	w4 := m.wait()
	give(13, 2)
	m.done(w3) // w4 comes after 12
	has(13, 14)
	m.done(w4)
	has()
	if m.waiting != nil || m.results != nil {
		t.Error("something is kept")
	}
}

func TestSnapshot(t *testing.T) {
	full := errors.New("the disk is full")
	write := func(s raft.SnapshotSink) error { _, err := s.Write([]byte("state")); return err }
	for what, c := range map[string]struct {
		persist func(s raft.SnapshotSink) error
		to      io.Writer
		want    error
	}{
		"closed":        {persist: func(s raft.SnapshotSink) error { return errors.Join(write(s), s.Close()) }},
		"closed twice":  {persist: func(s raft.SnapshotSink) error { return errors.Join(write(s), s.Close(), s.Close()) }},
		"left open":     {persist: write},
		"failed":        {persist: func(s raft.SnapshotSink) error { return errors.Join(write(s), full) }, want: full},
		"cancelled":     {persist: func(s raft.SnapshotSink) error { return errors.Join(write(s), s.Cancel()) }, want: errCancelled},
		"not written":   {persist: write, to: failing{full}, want: full},
		"not looked at": {persist: func(s raft.SnapshotSink) error { _ = write(s); _ = s.Close(); return nil }, to: failing{full}, want: full},
		"after its end": {persist: func(s raft.SnapshotSink) error { return errors.Join(write(s), s.Close(), write(s)) }, want: errors.New("file already closed")},
	} {
		snap := &fakeSnapshot{persist: c.persist}
		m := New(&fake{apply: func(*raft.Log) any { return nil }, snapshot: func() (raft.FSMSnapshot, error) { return snap, nil }}, Config{})
		if err := m.Apply(entries(8, 2)); err != nil {
			t.Fatal(err)
		}
		body, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if id := body.(*capture).id; !strings.HasPrefix(id, "7-9-") {
			t.Errorf("the snapshot is called %s", id)
		}
		var b bytes.Buffer
		to := c.to
		if to == nil {
			to = &b
		}
		n, err := body.WriteTo(to)
		switch {
		case c.want == nil && (err != nil || b.String() != "state" || n != 5):
			t.Errorf("%s: %d bytes, %q, %v", what, n, b.String(), err)
		case c.want != nil && (err == nil || !strings.Contains(err.Error(), c.want.Error())):
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if _, err := body.WriteTo(&b); err != errReleased {
			t.Errorf("%s: written again: %v", what, err)
		}
		if _, err := m.Snapshot(); snap.released != 1 || err != nil {
			t.Errorf("%s: released %d times", what, snap.released)
		}
		// That one is never written.
		if err := m.Restore(strings.NewReader("other")); err != nil || snap.released != 2 {
			t.Errorf("%s: %v, released %d times", what, err, snap.released)
		}
		if got := string(m.fsm.(*fake).restored); got != "other" {
			t.Errorf("restored %q", got)
		}
	}
	m := New(&fake{snapshot: func() (raft.FSMSnapshot, error) { return nil, nil }}, Config{})
	if _, err := m.Snapshot(); err == nil {
		t.Error("no snapshot is one")
	}
	m.fsm.(*fake).snapshot = func() (raft.FSMSnapshot, error) { return nil, full }
	if _, err := m.Snapshot(); err != full {
		t.Errorf("%v", err)
	}
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

func TestDecode(t *testing.T) {
	for _, c := range []struct{ result, want any }{
		{nil, nil},
		{[]byte("bytes"), []byte("bytes")},
		{[]byte{}, []byte{}},
		{"text", "text"},
		{errors.New("no such key"), &ResultError{"no such key"}},
		{3, &ResultError{"raftfsm: a result of type int has no bytes; set Config.Encode"}},
	} {
		if got, err := Decode(Encode(c.result)); fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", c.want, c.want) || err != nil {
			t.Errorf("%v becomes %v, %v", c.result, got, err)
		}
	}
	if _, err := Decode([]byte("anything")); err == nil {
		t.Error("anything is a result")
	}
}
