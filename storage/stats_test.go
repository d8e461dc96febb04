package storage

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/testseed"
)

// TestStats: what Stats says is what was done to the files and what is in them.
func TestStats(t *testing.T) {
	l := newLife(testseed.Rand(t), faultfs.New())
	var writes, bytes, syncs, removed uint64
	l.watch(func(_ int, op *faultfs.Op, _ *progress) faultfs.Fault {
		switch {
		case op.Kind == faultfs.OpWrite && op.Dsync:
			writes, bytes = writes+1, bytes+uint64(op.Size)
		case op.Kind == faultfs.OpSync && filepath.Base(op.Name) == markName:
			syncs++
		case (op.Kind == faultfs.OpRemove || op.Kind == faultfs.OpRename) && strings.HasSuffix(op.Name, ".wal"):
			removed++
		}
		return faultfs.Fault{}
	})
	must(t, l.open())
	opened := l.w.Stats()
	if opened.Saves != 0 || opened.Segments != 1 || opened.Snapshots != 1 || opened.Free != -1 {
		t.Errorf("%+v", opened)
	}
	writes, bytes, syncs = 0, 0, 0
	saves := uint64(0)
	for _, step := range script {
		must(t, l.step(step))
		if strings.ContainsRune("vaesob", step) {
			saves++
		}
	}
	must(t, l.w.supply.prepare()) // nothing is on its way
	l.w.sweep()
	s := l.w.Stats()
	l.fs.Inject(nil)
	d := disk{l.fs}
	var segments, snapshots int
	var snapBytes, used int64
	for _, dir := range []string{walName, snapName} {
		names, err := d.ReadDir(filepath.Join(lifeDir, dir))
		must(t, err)
		for _, e := range names {
			fi, err := e.Info()
			must(t, err)
			used += fi.Size()
			switch filepath.Ext(e.Name()) {
			case ".wal":
				segments++
			case snapExt:
				snapshots, snapBytes = snapshots+1, snapBytes+fi.Size()
			}
		}
	}
	retained := int64(0)
	for _, seg := range l.w.segs {
		retained += seg.end
	}
	must(t, l.w.Close())
	write := s.Write.Since(&opened.Write)
	if write.Count != writes || s.LogBytes-opened.LogBytes != bytes || s.Sync.Count-opened.Sync.Count != syncs {
		t.Errorf("%d writes of %d bytes, %d syncs; want %d, %d, %d", write.Count, s.LogBytes-opened.LogBytes, s.Sync.Count-opened.Sync.Count, writes, bytes, syncs)
	}
	if s.Segments != segments || s.Snapshots != snapshots || s.SnapshotBytes != snapBytes || s.Retained != retained || s.Dropped != removed {
		t.Errorf("%d segments, %d snapshots of %d bytes, %d retained, %d dropped; want %d, %d, %d, %d, %d",
			s.Segments, s.Snapshots, s.SnapshotBytes, s.Retained, s.Dropped, segments, snapshots, snapBytes, retained, removed)
	}
	if s.Used < used-blockSize || s.Used > used+blockSize {
		t.Errorf("%d bytes used, want %d", s.Used, used)
	}
	if saves += 2; s.Saves < saves || s.Staged != 3 || s.Installed != 3 || s.Checkpoints == 0 || int(s.Cuts) != segments+int(s.Dropped)-1 {
		t.Errorf("%d saves, want %d; %+v", s.Saves, saves, s)
	}
}

// TestStatsLatency: a write counts from its beginning until it is durable.
func TestStatsLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faultfs.New()
		w, err := openLife(s)
		must(t, err)
		before := w.Stats()
		s.Inject(func(op *faultfs.Op) (f faultfs.Fault) {
			if op.Dsync || op.Kind == faultfs.OpSync {
				until := make(chan struct{})
				time.AfterFunc(8*time.Millisecond, func() { close(until) })
				f.Until = until
			}
			return f
		})
		must(t, w.Save(hard(2, 1, 1), entries(2, 3, 2, 10))) // a write, and the mark of a vote
		s.Inject(nil)
		after := w.Stats()
		write, sync := after.Write.Since(&before.Write), after.Sync.Since(&before.Sync)
		for name, got := range map[string]int64{"write": write.Sum, "sync": sync.Sum} {
			if got != int64(8*time.Millisecond) {
				t.Errorf("%s took %v", name, time.Duration(got))
			}
		}
		must(t, w.Close())
	})
}

// BenchmarkTally is what the counting costs a Save.
func BenchmarkTally(b *testing.B) {
	var t tally
	for b.Loop() {
		began := time.Now()
		t.writes.Observe(int64(time.Since(began)))
		t.saves.Add(1)
	}
}

func BenchmarkStats(b *testing.B) {
	w, err := openLife(faultfs.New())
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	for b.Loop() {
		w.Stats()
	}
}
