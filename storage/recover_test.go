package storage

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestRecoveryMemory: however much log is behind the checkpoint, a start keeps next to nothing.
func TestRecoveryMemory(t *testing.T) {
	dir := filepath.Join(fastDir(t), "m")
	o := testOptions()
	o.SegmentSize = 4 << 20
	w, err := Open(dir, o)
	must(t, err)
	const size, count = 64 << 10, 512
	data := make([]byte, size)
	for i := uint64(2); i < count+2; i += 8 {
		var ents []*raftpb.Entry
		for k := i; k < i+8; k++ {
			ents = append(ents, &raftpb.Entry{Index: new(k), Term: new(uint64(2)), Data: data})
		}
		must(t, w.Save(hard(2, 1, i-1), ents))
	}
	must(t, w.Close())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w, err = Open(dir, o)
	must(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc - before.HeapAlloc); kept > 2<<20 {
		t.Errorf("of a log of %d MiB %d KiB were kept", count*size>>20, kept>>10)
	}
	if _, _, last, _ := w.Recovered(); last != count+1 {
		t.Error(last)
	}
	must(t, w.Close())
}

// TestMakeDir: a directory that is made with all that is missing above it, also where something above may not be read.
func TestMakeDir(t *testing.T) {
	root := t.TempDir()
	must(t, onDisk.makeDir(filepath.Join(root, "a", "b", "c")))
	must(t, os.Chmod(filepath.Join(root, "a"), 0o300))
	defer os.Chmod(filepath.Join(root, "a"), 0o700)
	must(t, onDisk.makeDir(filepath.Join(root, "a", "b", "d", "e")))
	must(t, onDisk.makeDir(filepath.Join(root, "a", "b", "d", "e")))
}
