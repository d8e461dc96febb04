package storage

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
)

// The zeros that are written ahead never hit the log, which grows as fast as they do.
func TestG1_ZerosStayAhead(t *testing.T) {
	rnd := testseed.Rand(t)
	dir := filepath.Join(t.TempDir(), "m")
	o := testOptions()
	o.SegmentSize = 0
	w, err := Open(dir, o)
	must(t, err)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	for bytes := 0; bytes < 150<<20; { // two segments and more
		at := uint64(len(m.ents) + 2)
		ents := entries(at, at+1+rnd.Uint64N(3), 2, rnd.IntN(roomWrite))
		for _, e := range ents {
			bytes += len(e.Data)
		}
		m.save(t, w, hard(2, 1, 1), ents)
	}
	must(t, w.Close())
	w = mustOpen(t, dir)
	if err := m.check(w); err != nil {
		t.Fatal(err)
	}
}

// reused brings w to where its last segment is the file of one that was compacted away.
func reused(t *testing.T, w *WAL, m *model) {
	t.Helper()
	var seen []os.FileInfo
	for range 100 {
		fi, err := os.Stat(w.segs[len(w.segs)-1].path)
		must(t, err)
		for i, old := range seen {
			if os.SameFile(old, fi) && i < len(seen)-1 {
				return
			}
		}
		seen = append(seen, fi)
		for seq := w.segs[len(w.segs)-1].seq; w.segs[len(w.segs)-1].seq == seq; {
			at := uint64(len(m.ents) + 2)
			m.save(t, w, hard(2, 1, at), entries(at, at+1, 2, 3000))
		}
		m.snap = m.hs.commit
		must(t, w.SaveSnapshot(snapshot(m.snap, 2, "s"), nil))
		must(t, w.Compact(m.snap))
	}
	t.Fatal("no file was used again")
}

// A power cut leaves any of the blocks of an unfinished write, and in the others old records that were intact once.
func TestT13_TornOverOldRecords(t *testing.T) {
	root := fastDir(t)
	dir, before := filepath.Join(root, "m"), filepath.Join(root, "before")
	w := mustOpen(t, dir)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	reused(t, w, m)
	at := uint64(len(m.ents) + 2)
	m.save(t, w, hard(2, 1, m.hs.commit), entries(at, at+1, 2, 500))
	must(t, w.mark.sync())
	must(t, copyInto(before, dir))
	tail := w.segs[len(w.segs)-1].path
	old, err := os.ReadFile(tail)
	must(t, err)
	start := int(w.out.at)
	torn := entries(at+1, at+6, 2, 3000)
	must(t, w.Save(nil, torn))
	end := int(w.out.at) + blockSize
	must(t, w.Close())
	full, err := os.ReadFile(tail)
	must(t, err)
	blocks := (end - start) / blockSize
	if blocks < 4 || zero(old[end-blockSize:end]) {
		t.Fatalf("%d blocks, over %x", blocks, old[end-16:end])
	}
	for written := range 1 << blocks {
		c := bytes.Clone(old)
		for k := range blocks {
			if written&(1<<k) != 0 {
				at := start + k*blockSize
				copy(c[at:at+blockSize], full[at:])
			}
		}
		must(t, os.RemoveAll(dir))
		must(t, copyInto(dir, before))
		must(t, os.WriteFile(tail, c, 0o600))
		var want []*raftpb.Entry
		for round := range 2 {
			w, err := Open(dir, testOptions())
			if err != nil {
				t.Fatalf("blocks %b: %v", written, err)
			}
			_, snap, ents := found(t, w)
			acked := m.ents[snap.GetMetadata().GetIndex()-1:]
			if round == 0 {
				n := max(len(ents)-len(acked), 0)
				if want = append(acked[:len(acked):len(acked)], torn[:min(n, len(torn))]...); written == 1<<blocks-1 && n != len(torn) {
					t.Fatalf("%d of %d entries of a complete write", n, len(torn))
				}
			}
			if err := sameEntries(ents, want); err != nil {
				t.Fatalf("blocks %b, round %d: %v", written, round, err)
			}
			if round == 0 {
				next := at + 1 + uint64(len(want)-len(acked))
				more := entries(next, next+1, 2, 50)
				must(t, w.Save(nil, more))
				want = append(want, more...)
			}
			must(t, w.Close())
		}
	}
	t.Logf("%d subsets of %d blocks", 1<<blocks, blocks)
}

// The log waits for zeros that are being written to a block which it wants, and for no others.
func TestG1_TakeWaitsForZeros(t *testing.T) {
	r := newRoom(syncedFile{direct: true}, 2*blockSize, 64<<20, new(tally))
	r.busy = true // as while extend writes
	r.take(0, 2*blockSize)
	taken := make(chan bool)
	go func() { taken <- r.take(2*blockSize, blockSize) }()
	select {
	case <-taken:
		t.Fatal("took a block to which zeros are being written")
	case <-time.After(50 * time.Millisecond):
	}
	r.mu.Lock()
	r.busy, r.ready = false, roomStep
	r.idle.Broadcast()
	r.mu.Unlock()
	if low := <-taken; !low || r.ready != roomStep {
		t.Fatal(low, r.ready)
	}
}

// A log that was written in good order ends in good order, wherever in a block its end is and whatever the file held.
func TestCleanEnd(t *testing.T) {
	w := mustOpen(t, filepath.Join(fastDir(t), "m"))
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	reused(t, w, m)
	full := 0
	for step := 0; full < 8; step++ { // of 8 bytes, to and over the end of a block; most files were used before
		at := uint64(len(m.ents) + 2)
		rest := blockSize - int(w.out.end())%blockSize
		m.save(t, w, hard(2, 1, at), entries(at, at+1, 2, rest+blockSize-200+8*(step%41)))
		if w.out.end()%blockSize == 0 {
			full++
		}
		segs, _, err := onDisk.listSegments(filepath.Join(w.dir, walName))
		must(t, err)
		if sc, err := scan(segs, nil); err != nil || sc.torn != nil {
			t.Fatalf("end %d: %v, %v", w.out.end(), err, sc.torn)
		}
		must(t, w.SaveSnapshot(snapshot(m.hs.commit, 2, "s"), nil))
		must(t, w.Compact(m.hs.commit))
	}
}
