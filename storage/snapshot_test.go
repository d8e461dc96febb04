package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

func readSnapshot(t *testing.T, w *WAL) (*raftpb.Snapshot, []byte, error) {
	t.Helper()
	snap, r, size, err := w.OpenSnapshot()
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err == nil && int64(len(b)) != size {
		t.Fatalf("%d bytes, size %d", len(b), size)
	}
	return snap, b, err
}

func snapFiles(t *testing.T, w *WAL) (out []string) {
	t.Helper()
	names, err := os.ReadDir(filepath.Join(w.dir, snapName))
	must(t, err)
	for _, e := range names {
		out = append(out, e.Name())
	}
	return out
}

func TestSnapshotCompactRecover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	big := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	for i := uint64(2); i < 100; i++ {
		m.save(t, w, hard(2, 1, i-1), entries(i, i+1, 2, 900))
		if i%20 == 0 {
			must(t, w.SaveSnapshot(snapshot(i-1, 2, fmt.Sprint("at ", i-1)), body(big[:i*1000])))
			m.snap = i - 1
		}
	}
	if got := snapFiles(t, w); len(got) != keepSnapshots {
		t.Fatal(got)
	}
	n := len(segmentFiles(t, dir))
	must(t, w.Compact(1<<60))
	fallback := m.snap - 20
	if first := w.First(); first > fallback+1 || first < fallback-20 || len(segmentFiles(t, dir)) >= n {
		t.Fatalf("first %d after compaction to %d, %d segments", first, m.snap, len(segmentFiles(t, dir)))
	}
	if _, err := w.Entries(2, 3, 1); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
	must(t, w.SaveSnapshot(snapshot(40, 2, "old"), nil)) // overtaken
	if err := w.SaveSnapshot(snapshot(99, 3, "wrong term"), nil); err == nil {
		t.Fatal("accepted")
	}
	for range 2 {
		must(t, w.Close())
		w = mustOpen(t, dir)
		if err := m.check(w); err != nil {
			t.Fatal(err)
		}
		snap, b, err := readSnapshot(t, w)
		if err != nil || string(snap.Data) != "at 79" || !bytes.Equal(b, big[:80_000]) {
			t.Fatal(snap, len(b), err)
		}
	}
}

type failing struct{}

func (failing) WriteTo(w io.Writer) (int64, error) {
	n, _ := w.Write([]byte("half"))
	return int64(n), errors.New("no more")
}

func TestSnapshotBodyFails(t *testing.T) {
	w := mustOpen(t, filepath.Join(t.TempDir(), "m"))
	must(t, w.Save(hard(2, 1, 5), entries(2, 9, 2, 10)))
	if err := w.SaveSnapshot(snapshot(5, 2, ""), failing{}); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	go func() {
		pw.Write([]byte("half"))
		pw.CloseWithError(errors.New("cut off"))
	}()
	if err := w.StageSnapshot(snapshot(50, 2, ""), pr); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Fatal(err)
	}
	if err := w.InstallSnapshot(snapshot(50, 2, ""), nil); !errors.Is(err, ErrNoSnapshot) {
		t.Fatal(err)
	}
	if got := snapFiles(t, w); len(got) != 2 || !strings.HasSuffix(got[1], partExt) {
		t.Fatal(got)
	}
	must(t, w.SaveSnapshot(snapshot(5, 2, ""), nil))
	must(t, w.Save(nil, entries(9, 10, 2, 10)))
}

func TestStageInstallRecover(t *testing.T) {
	for name, at := range map[string]uint64{"beyond the log": 500, "conflict inside the log": 20} {
		for _, after := range []uint64{0, 5, 60} {
			t.Run(fmt.Sprintf("%s, %d entries after", name, after), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "m")
				w := mustOpen(t, dir)
				must(t, w.Save(hard(2, 1, 10), entries(2, 50, 2, 900)))
				must(t, w.Save(nil, entries(50, 51, 2, 900)))
				must(t, w.StageSnapshot(snapshot(at-1, 3, "stale"), strings.NewReader("x")))
				must(t, w.StageSnapshot(snapshot(at, 3, "leader"), strings.NewReader("the state")))
				if got := snapFiles(t, w); len(got) != 3 { // the older staged one may be about to be installed
					t.Fatal(got)
				}
				if snap, _, err := readSnapshot(t, w); err != nil || string(snap.Data) != "boot" {
					t.Fatal("staged is in force already", snap, err)
				}
				must(t, w.InstallSnapshot(snapshot(at, 3, "leader"), hard(3, 2, at)))
				for start := time.Now(); ; time.Sleep(time.Millisecond) { // the one before has lost its log
					if got := snapFiles(t, w); len(got) == 1 {
						break
					} else if time.Since(start) > 10*time.Second {
						t.Fatal(got)
					}
				}
				if _, err := w.Entries(at+1, at+2, 1); !errors.Is(err, ErrUnavailable) {
					t.Fatal(err)
				}
				if _, err := w.Entries(at, at+1, 1); !errors.Is(err, ErrCompacted) {
					t.Fatal(err)
				}
				for i := at + 1; i <= at+after; i++ {
					must(t, w.Save(nil, entries(i, i+1, 3, 900)))
				}
				for round := range 3 {
					kill(t, w)
					w = mustOpen(t, dir)
					hs, snap, ents := found(t, w)
					if hs.GetTerm() != 3 || hs.GetVote() != 2 || hs.GetCommit() != at || snap.GetMetadata().GetIndex() != at || w.First() != at+1 {
						t.Fatal(round, hs, snap, w.First())
					}
					if err := sameEntries(ents, entries(at+1, at+after+1, 3, 900)); err != nil {
						t.Fatal(err)
					}
				}
				for i := at + after + 1; i <= at+after+40; i++ {
					must(t, w.Save(nil, entries(i, i+1, 3, 900)))
				}
				must(t, w.Compact(at))
				got, err := w.Entries(at+1, at+after+41, 1<<30)
				must(t, err)
				if err := sameEntries(got, entries(at+1, at+after+41, 3, 900)); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A hard state alone may begin a segment when an installed snapshot is all the log there is: its name must not hide the
// snapshot from the next start.
func TestInstallThenHardStatesOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	must(t, w.StageSnapshot(snapshot(500, 3, "leader"), nil))
	must(t, w.InstallSnapshot(snapshot(500, 3, "leader"), hard(3, 2, 500)))
	must(t, w.Close())
	w = mustOpen(t, dir)
	for term := uint64(4); len(segmentFiles(t, dir)) < 2; term++ {
		must(t, w.Save(hard(term, 1, 500), nil))
	}
	must(t, w.Compact(500))
	must(t, w.Close())
	w = mustOpen(t, dir)
	if _, snap, ents := found(t, w); snap.GetMetadata().GetIndex() != 500 || len(ents) != 0 {
		t.Fatal(snap, ents)
	}
}

// Deaths between the steps of a checkpoint and of an install.
func TestSnapshotInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	m := &model{snap: 1}
	m.save(t, w, hard(2, 1, 10), entries(2, 20, 2, 100))
	snaps := filepath.Join(dir, snapName)
	for _, name := range []string{(snapID{15, 2}).file(snapExt), (snapID{15, 2}).file(stagedExt)} {
		tmp, err := onDisk.writeSnapshotFile(snaps, snapshot(15, 2, "not recorded"), nil)
		must(t, err)
		must(t, onDisk.moveFile(tmp, filepath.Join(snaps, name)))
	}
	must(t, os.WriteFile(filepath.Join(snaps, "x.tmp"), []byte("half"), 0o600))
	kill(t, w)
	w = mustOpen(t, dir)
	if err := m.check(w); err != nil {
		t.Fatal(err)
	}
	if got := snapFiles(t, w); len(got) != 1 {
		t.Fatal(got)
	}
	// The record of an installed snapshot is there, its commit is not.
	must(t, w.StageSnapshot(snapshot(100, 2, "leader"), nil))
	must(t, os.Rename(filepath.Join(snaps, (snapID{100, 2}).file(stagedExt)), filepath.Join(snaps, (snapID{100, 2}).file(snapExt))))
	w.mu.Lock()
	must(t, w.recordLocked(snapshot(100, 2, "leader")))
	_, err := w.out.sync()
	w.mu.Unlock()
	must(t, err)
	for range 3 {
		kill(t, w)
		w = mustOpen(t, dir)
		if hs, snap, ents := found(t, w); hs.GetCommit() != 100 || hs.GetVote() != 1 || snap.GetMetadata().GetIndex() != 100 || len(ents) != 0 {
			t.Fatal(hs, snap, ents)
		}
	}
	must(t, w.Save(nil, entries(101, 102, 2, 10)))
}

// Entries of a new term whose hard state was torn off: the term goes up, without a vote, and stays over restarts.
func TestEntriesWithoutTheirTerm(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	must(t, w.Save(hard(2, 1, 1), entries(2, 4, 2, 10)))
	w.out.entry(entry(4, 5, 10))
	_, err := w.out.sync()
	must(t, err)
	kill(t, w)
	for range 3 {
		w = mustOpen(t, dir)
		if hs, _, ents := found(t, w); hs.GetTerm() != 5 || hs.GetVote() != 0 || len(ents) != 3 {
			t.Fatal(hs, ents)
		}
		kill(t, w)
	}
}

// The newest snapshot is damaged: the older one and the log after it do as well, however far the log was to be cut, and
// checkpoints that are older than the damaged one are welcome again. Where the log was replaced there is no such fallback.
func TestG7_DamagedSnapshot(t *testing.T) {
	for _, of := range []string{"checkpoint", "checkpoint, log cut", "leader"} {
		t.Run(of, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			w := mustOpen(t, dir)
			m := &model{snap: 1}
			for i := uint64(2); i < 90; i++ {
				m.save(t, w, hard(2, 1, i-1), entries(i, i+1, 2, 900))
			}
			must(t, w.SaveSnapshot(snapshot(20, 2, "twenty"), body("twenty")))
			at := uint64(80)
			if of == "leader" {
				at = 500
				must(t, w.StageSnapshot(snapshot(at, 2, ""), strings.NewReader(strings.Repeat("leader", 1000))))
				must(t, w.InstallSnapshot(snapshot(at, 2, ""), hard(2, 1, at)))
			} else {
				must(t, w.SaveSnapshot(snapshot(at, 2, "eighty"), body(strings.Repeat("eighty", 1000))))
			}
			if of != "checkpoint" {
				must(t, w.Compact(at))
			}
			name := filepath.Join(dir, snapName, (snapID{at, 2}).file(snapExt))
			b, err := os.ReadFile(name)
			must(t, err)
			b[2000] ^= 4
			must(t, os.WriteFile(name, b, 0o600))
			var ce *CorruptError
			if _, got, err := readSnapshot(t, w); !errors.As(err, &ce) || ce.File != name {
				t.Fatal(len(got), err)
			}
			must(t, w.Close())
			w, err = Open(dir, testOptions())
			if of == "leader" {
				if !errors.As(err, &ce) || ce.File != name {
					t.Fatal(err)
				}
				return
			}
			must(t, err)
			for _, next := range []uint64{20, 60, 70} {
				if next > 20 {
					must(t, w.SaveSnapshot(snapshot(next, 2, ""), body("again")))
					must(t, w.Compact(next))
					must(t, w.Close())
					w = mustOpen(t, dir)
				}
				m.snap = next
				if err := m.check(w); err != nil {
					t.Fatal(err)
				}
			}
			must(t, w.Close())
		})
	}
}

func TestCloseAbandonsSnapshot(t *testing.T) {
	w := mustOpen(t, filepath.Join(t.TempDir(), "m"))
	must(t, w.Save(hard(2, 1, 5), entries(2, 9, 2, 10)))
	started := make(chan struct{})
	done := make(chan error)
	go func() { done <- w.SaveSnapshot(snapshot(5, 2, ""), &endless{started: started}) }()
	<-started
	must(t, w.Save(nil, entries(9, 10, 2, 10))) // not held up by the snapshot
	must(t, w.Close())
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

type endless struct{ started chan struct{} }

func (e *endless) WriteTo(w io.Writer) (int64, error) {
	for n := int64(0); ; n++ {
		if n == 1 {
			close(e.started)
		}
		if _, err := w.Write(make([]byte, 64)); err != nil {
			return n, err
		}
	}
}

func BenchmarkSave(b *testing.B) {
	for _, size := range []int{128, 64 << 10} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			o := testOptions()
			o.SegmentSize = 0
			w, err := Open(filepath.Join(b.TempDir(), "m"), o)
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			if err := w.Save(hard(2, 1, 1), nil); err != nil {
				b.Fatal(err)
			}
			i := uint64(2)
			for b.Loop() {
				if err := w.Save(nil, entries(i, i+1, 2, size)); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// TestStagedSnapshotsWait: a snapshot that is staged can be installed whatever is staged or saved meanwhile, and is deleted
// when a newer one is in force.
func TestStagedSnapshotsWait(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	defer w.Close()
	m := &model{snap: 1}
	m.save(t, w, hard(2, 7, 18), entries(2, 20, 2, 10))
	cs := &raftpb.ConfState{Voters: []uint64{7}}
	at := func(index uint64) *raftpb.Snapshot {
		return &raftpb.Snapshot{Data: []byte("x"), Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: new(uint64(2)), ConfState: cs}}
	}
	for _, i := range []uint64{50, 90} {
		must(t, w.StageSnapshot(at(i), strings.NewReader("state")))
	}
	must(t, w.SaveSnapshot(at(15), strings.NewReader("own")))
	must(t, w.InstallSnapshot(at(50), nil))
	must(t, w.InstallSnapshot(at(90), nil))
	must(t, w.StageSnapshot(at(60), strings.NewReader("late")))
	names, err := os.ReadDir(filepath.Join(dir, snapName))
	must(t, err)
	for _, e := range names {
		if strings.HasSuffix(e.Name(), stagedExt) {
			t.Errorf("%s is left", e.Name())
		}
	}
}
