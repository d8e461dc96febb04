package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onDisk is where most tests have their files.
var onDisk = disk{vfs.OS}

const smallSegment = 16 << 10

var testID = Identity{Cluster: "jobs", Member: "a", ID: 0x1122334455667788, Incarnation: 77}

func bootSnapshot() *raftpb.Snapshot { return snapshot(1, 1, "boot") }

func snapshot(index, term uint64, data string) *raftpb.Snapshot {
	return &raftpb.Snapshot{Data: []byte(data), Metadata: &raftpb.SnapshotMetadata{
		Index: new(index), Term: new(term), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}}
}

func testOptions() Options {
	return Options{Identity: testID, Boot: bootSnapshot(), Logger: slog.New(slog.DiscardHandler), SegmentSize: smallSegment}
}

func mustOpen(t *testing.T, dir string) *WAL {
	t.Helper()
	w, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hard(term, vote, commit uint64) *raftpb.HardState { return hardState{term, vote, commit}.proto() }

func payload(index, term uint64, size int) []byte {
	return append(fmt.Appendf(nil, "%d/%d ", index, term), bytes.Repeat([]byte{byte(index), byte(term)}, size/2)...)
}

func entry(index, term uint64, size int) *raftpb.Entry {
	return &raftpb.Entry{Index: new(index), Term: new(term), Data: payload(index, term, size)}
}

func entries(lo, hi, term uint64, size int) (out []*raftpb.Entry) {
	for i := lo; i < hi; i++ {
		out = append(out, entry(i, term, size))
	}
	return out
}

func sameEntry(a, b *raftpb.Entry) bool {
	return a.GetIndex() == b.GetIndex() && a.GetTerm() == b.GetTerm() && a.GetType() == b.GetType() && bytes.Equal(a.Data, b.Data)
}

func sameEntries(a, b []*raftpb.Entry) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d entries, want %d", len(a), len(b))
	}
	for i := range a {
		if !sameEntry(a[i], b[i]) {
			return fmt.Errorf("entry %d/%d, want %d/%d", a[i].GetIndex(), a[i].GetTerm(), b[i].GetIndex(), b[i].GetTerm())
		}
	}
	return nil
}

// model is what a member was told is durable.
type model struct {
	hs   hardState
	snap uint64
	ents []*raftpb.Entry // from index 2 on, whatever the snapshot

	adopted uint64 // the snapshot that has ownHeader
}

const ownHeader = "the header that a member gives to the snapshot of another one"

func (m *model) save(t *testing.T, w *WAL, hs *raftpb.HardState, ents []*raftpb.Entry) {
	t.Helper()
	must(t, w.Save(hs, ents))
	m.note(hs, ents)
}

func (m *model) note(hs *raftpb.HardState, ents []*raftpb.Entry) {
	if hs.GetTerm() != 0 {
		m.hs = hardState{hs.GetTerm(), hs.GetVote(), hs.GetCommit()}
	}
	if len(ents) > 0 {
		m.ents = append(m.ents[:ents[0].GetIndex()-2:ents[0].GetIndex()-2], ents...)
	}
}

// check compares a recovered WAL with the model. tail is how many entries beyond it may be there, unacknowledged.
func (m *model) check(w *WAL) error {
	hs, snap, ents, err := recovery(w)
	if err != nil {
		return err
	}
	at := snap.GetMetadata().GetIndex()
	if at != m.snap {
		return fmt.Errorf("snapshot %d, want %d", at, m.snap)
	}
	if at == m.adopted && string(snap.GetData()) != ownHeader {
		return fmt.Errorf("snapshot %d has the header %q", at, snap.GetData())
	}
	if hs.GetTerm() != m.hs.term || hs.GetVote() != m.hs.vote || hs.GetCommit() > m.hs.commit || hs.GetCommit() < at {
		return fmt.Errorf("hard state %v, want %v", hs, m.hs)
	}
	if err := sameEntries(ents, m.ents[at-1:]); err != nil {
		return fmt.Errorf("recovered: %w", err)
	}
	first, last := w.First(), uint64(len(m.ents)+1)
	if first > at+1 {
		return fmt.Errorf("first is %d, snapshot %d", first, at)
	}
	var got []*raftpb.Entry
	for lo := first; lo <= last; {
		part, err := w.Entries(lo, last+1, 4000)
		if err != nil {
			return err
		}
		got, lo = append(got, part...), lo+uint64(len(part))
	}
	return sameEntries(got, m.ents[first-2:])
}

// found returns what w has recovered, with the entries read back.
func found(t *testing.T, w *WAL) (*raftpb.HardState, *raftpb.Snapshot, []*raftpb.Entry) {
	t.Helper()
	hs, snap, ents, err := recovery(w)
	must(t, err)
	return hs, snap, ents
}

// recovery returns what w has recovered, with the entries read back.
func recovery(w *WAL) (*raftpb.HardState, *raftpb.Snapshot, []*raftpb.Entry, error) {
	hs, snap, last, terms := w.Recovered()
	at := snap.GetMetadata().GetIndex()
	var ents []*raftpb.Entry
	for lo := at + 1; lo <= last; {
		part, err := w.Entries(lo, last+1, 1<<20)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("snapshot %d, entries up to %d: %w", at, last, err)
		}
		ents, lo = append(ents, part...), lo+uint64(len(part))
	}
	var runs, want []termRun
	for first, term := range terms {
		runs = append(runs, termRun{first, term})
	}
	for i, e := range ents {
		if i == 0 || e.GetTerm() != ents[i-1].GetTerm() {
			want = append(want, termRun{e.GetIndex(), e.GetTerm()})
		}
	}
	if !slices.Equal(runs, want) {
		return nil, nil, nil, fmt.Errorf("terms %v, want %v", runs, want)
	}
	return hs, snap, ents, nil
}

// kill abandons w as the death of the process does: nothing is flushed, nothing written.
func kill(t *testing.T, w *WAL) {
	t.Helper()
	w.failed.CompareAndSwap(nil, new(errors.New("killed")))
	saved := copyTree(t, w.dir)
	w.Close()
	must(t, os.RemoveAll(w.dir))
	must(t, os.Rename(saved, w.dir))
}

func copyTree(t *testing.T, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp(filepath.Dir(dir), "copy")
	must(t, err)
	must(t, copyInto(to, dir))
	return to
}

func copyInto(to, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
}

// tree returns names and contents of all files in dir, but for the segment that an open WAL prepares in the
// background.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[path] = ""
			return err
		}
		if filepath.Base(filepath.Dir(path)) == walName && filepath.Ext(path) == ".tmp" {
			return nil
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	}))
	return out
}

type body []byte

func (b body) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

func segmentFiles(t *testing.T, dir string) []string {
	t.Helper()
	segs, _, err := onDisk.listSegments(filepath.Join(dir, walName))
	must(t, err)
	var out []string
	for _, s := range segs {
		out = append(out, s.path)
	}
	return out
}
