package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/raft/v3/raftpb"
)

var errBroken = errors.New("the connection is gone")

// rest is a body whose sender compares what the receiver has with what it has itself.
type rest struct {
	body []byte
	at   int   // of what is read next
	sent int   // bytes
	ends error // instead of io.EOF
}

func (r *rest) Resume(have int64, sum [sha256.Size]byte) (int64, error) {
	if have <= int64(len(r.body)) && sha256.Sum256(r.body[:have]) == sum {
		r.at = int(have)
	}
	return int64(r.at), nil
}

func (r *rest) Read(p []byte) (int, error) {
	n := copy(p, r.body[r.at:])
	if r.at, r.sent = r.at+n, r.sent+n; n > 0 {
		return n, nil
	}
	if r.ends != nil {
		return 0, r.ends
	}
	return 0, io.EOF
}

// stagedBody installs a staged snapshot, and returns what it holds.
func stagedBody(t *testing.T, w *WAL, s *raftpb.Snapshot) []byte {
	t.Helper()
	must(t, w.InstallSnapshot(s, nil))
	got, r, size, err := w.OpenSnapshot()
	must(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	must(t, err)
	if !proto.Equal(got, s) || size != int64(len(b)) {
		t.Fatalf("snapshot %v of %d bytes, want %v of %d", got, size, s, len(b))
	}
	return b
}

// TestStageGoesOn: a snapshot whose body breaks off anywhere goes on there, in the same process and in another one, and is what was
// sent. What is not what the sender has is sent again from the beginning.
func TestStageGoesOn(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 40<<10)
	for _, test := range []struct {
		at      int
		restart bool
		spoil   func(path string)
		whole   bool // is sent again
	}{
		{at: 0, whole: true}, {at: 1}, {at: 4095}, {at: 256 << 10}, {at: 256<<10 + 1, restart: true}, {at: len(sent) - 1}, {at: len(sent), restart: true},
		{at: 300 << 10, whole: true, spoil: func(path string) { // a byte of it is another
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt([]byte{'x'}, 100<<10)
			must(t, errors.Join(err, f.Close()))
		}},
		{at: 300 << 10, whole: true, restart: true, spoil: func(path string) { must(t, os.Truncate(path, 5)) }},
		{at: 300 << 10, whole: true, restart: true, spoil: func(path string) { // as if all had been there, and no name
			must(t, os.WriteFile(path, append(append(snapFront(), sent...), "the header, and what is behind it"...), 0o600))
		}},
	} {
		t.Run(fmt.Sprintf("%d", test.at), func(t *testing.T) {
			dir := t.TempDir()
			w := mustOpen(t, dir)
			s := snapshot(50, 3, "leader's")
			first := io.MultiReader(bytes.NewReader(sent[:test.at]), iotest.ErrReader(errBroken))
			if err := w.StageSnapshot(s, first); !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			if test.restart {
				must(t, w.Close())
				w = mustOpen(t, dir)
			}
			if test.spoil != nil {
				test.spoil(filepath.Join(dir, snapName, idOf(s).file(partExt)))
			}
			body := &rest{body: sent}
			must(t, w.StageSnapshot(s, body))
			want := len(sent) - test.at
			if test.whole {
				want = len(sent)
			}
			if body.sent != want {
				t.Errorf("%d bytes were sent, want %d", body.sent, want)
			}
			must(t, w.Save(hard(3, 0, 1), nil))
			if got := stagedBody(t, w, s); !bytes.Equal(got, sent) {
				t.Error("the body is not what was sent")
			}
			must(t, w.Close())
			w = mustOpen(t, dir)
			if got := snapFiles(t, w); len(got) != 1 {
				t.Errorf("there are %v", got)
			}
		})
	}
}

// TestStageBreaksOffAgain: what has broken off is added to, and a body that cannot go on begins anew.
func TestStageBreaksOffAgain(t *testing.T) {
	w := mustOpen(t, t.TempDir())
	sent := bytes.Repeat([]byte("0123456789"), 1000)
	s := snapshot(50, 3, "leader's")
	for n := 1000; n < len(sent); n += 1000 {
		body := &rest{body: sent[:n], ends: errBroken}
		if err := w.StageSnapshot(s, body); !errors.Is(err, errBroken) || body.sent != 1000 {
			t.Fatal(body.sent, err)
		}
	}
	if err := w.StageSnapshot(s, iotest.ErrReader(errBroken)); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	body := &rest{body: sent}
	must(t, w.StageSnapshot(s, body))
	if body.sent != len(sent) {
		t.Errorf("%d bytes were sent, and nothing was there any more", body.sent)
	}
	if got := snapFiles(t, w); len(got) != 2 {
		t.Errorf("there are %v", got)
	}
}

// TestPartsDoNotPileUp: of snapshots that have broken off one is kept at most, and none that is older than the one in force.
func TestPartsDoNotPileUp(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir)
	parts := func() (out []string) {
		for _, name := range snapFiles(t, w) {
			if strings.HasSuffix(name, partExt) {
				out = append(out, name)
			}
		}
		return out
	}
	for _, at := range []uint64{40, 60, 50} {
		if err := w.StageSnapshot(snapshot(at, 3, "x"), &rest{body: []byte("abc"), ends: errBroken}); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		if got := parts(); len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("%016x", at)) {
			t.Fatalf("after %d there are %v", at, got)
		}
	}
	must(t, w.Close())
	w = mustOpen(t, dir)
	if got := parts(); len(got) != 1 {
		t.Fatalf("after a restart there are %v", got)
	}
	must(t, w.Save(hard(3, 0, 1), entries(2, 61, 3, 10)))
	must(t, w.SaveSnapshot(snapshot(49, 3, "own"), nil))
	if got := parts(); len(got) != 1 {
		t.Fatalf("with one in force that is older there are %v", got)
	}
	must(t, w.SaveSnapshot(snapshot(60, 3, "own"), nil))
	if got := parts(); len(got) != 0 {
		t.Errorf("with one in force that is newer there are %v", got)
	}
}

// TestStageTwice: the same snapshot from two senders at once is received twice, and neither disturbs the other.
func TestStageTwice(t *testing.T) {
	w := mustOpen(t, t.TempDir())
	s := snapshot(50, 3, "leader's")
	slow, feed := io.Pipe()
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := w.StageSnapshot(s, slow); err != nil {
			t.Error(err)
		}
	})
	_, err := feed.Write([]byte("from the first"))
	must(t, err)
	if err := w.StageSnapshot(s, &rest{body: []byte("abc"), ends: errBroken}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	must(t, w.StageSnapshot(s, strings.NewReader("from the second")))
	_, err = feed.Write([]byte(", all of it"))
	must(t, err)
	must(t, feed.Close())
	wait.Wait()
	must(t, w.Save(hard(3, 0, 1), nil))
	if got := string(stagedBody(t, w, s)); got != "from the first, all of it" {
		t.Errorf("got %q", got)
	}
}

// TestAdopt: a leader's snapshot becomes a checkpoint of this member's under a header of its own, and the log stays.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, dir)
	must(t, w.Save(hard(3, 0, 40), entries(2, 61, 3, 10)))
	must(t, w.SaveSnapshot(snapshot(20, 3, "own"), body([]byte("old"))))
	if err := w.AdoptSnapshot(snapshot(40, 3, "mine")); !errors.Is(err, ErrNoSnapshot) {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("state "), 10<<10)
	must(t, w.StageSnapshot(snapshot(40, 3, "theirs"), bytes.NewReader(sent)))
	own := snapshot(40, 3, strings.Repeat("a longer header ", 100))
	must(t, w.AdoptSnapshot(own))
	look := func() {
		t.Helper()
		s, r, size, err := w.OpenSnapshot()
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		if !proto.Equal(s, own) || size != int64(len(sent)) || !bytes.Equal(b, sent) {
			t.Errorf("%v with %d bytes", s, size)
		}
		if got := snapFiles(t, w); len(got) != 1 {
			t.Errorf("there are %v", got)
		}
		if w.First() != 2 {
			t.Errorf("the log begins at %d", w.First())
		}
		ents, err := w.Entries(2, 61, 1<<20)
		must(t, err)
		must(t, sameEntries(ents, entries(2, 61, 3, 10)))
	}
	look()
	must(t, w.Close())
	w = mustOpen(t, dir)
	look()
	must(t, w.Compact(30))
	if w.First() > 31 || w.First() < 2 {
		t.Errorf("the log begins at %d", w.First())
	}
	must(t, w.StageSnapshot(snapshot(39, 3, "late"), strings.NewReader("late")))
	must(t, w.AdoptSnapshot(snapshot(39, 3, "late")))
	if s, r, _, err := w.OpenSnapshot(); err != nil || s.GetMetadata().GetIndex() != 40 {
		t.Error(s, err)
	} else {
		r.Close()
	}
}

// oldSnapshotFile is a snapshot file of version 1.
func oldSnapshotFile(t *testing.T, s *raftpb.Snapshot, body []byte) []byte {
	meta, err := proto.Marshal(s)
	must(t, err)
	b := binary.LittleEndian.AppendUint32([]byte(snapMagic), 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(meta)))
	b = append(append(b, meta...), body...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(body)))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// TestSnapshotVersions: files of both versions are read, and no byte of them can change unnoticed.
func TestSnapshotVersions(t *testing.T) {
	dir := t.TempDir()
	s, sent := snapshot(20, 3, "header"), []byte("the state of the machine")
	tmp, err := onDisk.writeSnapshotFile(dir, s, func(w io.Writer) error { _, err := w.Write(sent); return err })
	must(t, err)
	now, err := os.ReadFile(tmp)
	must(t, err)
	path := filepath.Join(dir, "file")
	for name, file := range map[string][]byte{"1": oldSnapshotFile(t, s, sent), "2": now} {
		must(t, os.WriteFile(path, file, 0o600))
		r, err := onDisk.openSnapshotFile(path)
		must(t, err)
		for _, n := range []int64{0, 5, int64(len(sent)), 1 << 20} { // read so far, and then again
			_, err := io.CopyN(io.Discard, r, n)
			if err != io.EOF {
				must(t, err)
			}
			must(t, r.Rewind())
		}
		b, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		if !proto.Equal(r.snap, s) || !bytes.Equal(b, sent) {
			t.Errorf("version %s: %v with %q", name, r.snap, b)
		}
		for i := range file {
			bad := bytes.Clone(file)
			bad[i] ^= 0x10
			must(t, os.WriteFile(path, bad, 0o600))
			if _, err := onDisk.verifySnapshotFile(path, idOf(s)); !isCorrupt(err) {
				t.Errorf("version %s, byte %d: %v", name, i, err)
			}
			must(t, os.WriteFile(path, file[:i], 0o600))
			if _, err := onDisk.verifySnapshotFile(path, idOf(s)); !isCorrupt(err) {
				t.Errorf("version %s, cut at %d: %v", name, i, err)
			}
		}
	}
	w := mustOpen(t, filepath.Join(dir, "m")) // a directory of before
	must(t, w.Close())
	must(t, os.WriteFile(filepath.Join(dir, "m", snapName, idOf(bootSnapshot()).file(snapExt)), oldSnapshotFile(t, bootSnapshot(), nil), 0o600))
	w = mustOpen(t, filepath.Join(dir, "m"))
	if _, snap, _, _ := w.Recovered(); !proto.Equal(snap, bootSnapshot()) {
		t.Errorf("recovered %v", snap)
	}
}
