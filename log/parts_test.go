package log

import (
	"bytes"
	"runtime"
	"testing"
	"weak"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// TestPartsKept: a large batch is walked once, where it is verified, for all who read it in parts; its parts are forgotten with it, when it is repaired, and
// where nobody reads in parts.
func TestPartsKept(t *testing.T) {
	const size, records = 64 << 10, 16
	disk := newModelDisk()
	w, err := NewStore(disk, 20*records*size/4)
	if err != nil {
		t.Fatal(err)
	}
	next, first := disk.last()+1, uint64(1)
	put := func() *raftpb.Entry {
		b := core.MakeBatch(1, nil)
		for range records {
			b.Add(make([]byte, size/4))
		}
		e := &raftpb.Entry{Index: new(next), Term: new(uint64(1)), Data: bytes.Clone(b.Seal(first))}
		next, first = next+1, first+records
		disk.save([]*raftpb.Entry{{Index: e.Index, Term: e.Term, Data: bytes.Clone(e.Data)}})
		w.append([]*raftpb.Entry{e})
		return e
	}
	verify := func(e *raftpb.Entry) {
		t.Helper()
		if err := w.soundParts(e, "in a test"); err != nil {
			t.Fatal(err)
		}
	}
	e := put()
	verify(e)
	if len(w.parted) > 0 {
		t.Fatal("parts are kept that nobody reads")
	}
	w.partSize.Store(size)
	verify(e)
	parts := w.partsOf(e, size)
	if n := len(parts); n < records/4 || parts[0].First != 1 || parts[n-1].First+uint64(parts[n-1].Count) != 1+records {
		t.Fatalf("%d parts of %d records are kept", n, records)
	}
	h, err := core.ParseHeader(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	r := reader{store: w, next: 1, part: size}
	if !r.takeParts(e, h) || len(r.piece.Parts) != len(parts) || &r.piece.Parts[0].Data[0] != &parts[0].Data[0] || r.piece.Parts[0].After != parts[0].After {
		t.Error("a reader from the first record on is given something else")
	}
	if r = (reader{store: w, next: 6, part: size}); !r.takeParts(e, h) || r.piece.Parts[0].First != 6 {
		t.Error("a reader from within the batch is not given it from there")
	}
	if r = (reader{store: w, next: 1, part: 2 * size}); !r.takeParts(e, h) || len(r.piece.Parts) >= len(parts) || len(w.partsOf(e, size)) != len(parts) {
		t.Error("a reader of larger parts is given small ones, or has others given its own")
	}

	// What was written to is read from the disk, and its parts are not those of the old memory.
	e.Data[len(e.Data)-1] ^= 1
	verify(e)
	repaired := w.ents[e.GetIndex()-w.first]
	if repaired == e || w.partsOf(repaired, size) != nil {
		t.Fatal("a repaired batch has the parts of the damaged one")
	}
	r = reader{store: w, next: 1, part: size}
	if !r.takeParts(repaired, h) || len(w.partsOf(repaired, size)) != len(parts) {
		t.Error("the parts that a reader has found are not kept")
	}

	held := weak.Make(e)
	gone := weak.Make(repaired)
	e, repaired, parts, r = nil, nil, nil, reader{}
	for range 60 {
		verify(put())
	}
	if len(w.parted) != len(w.ents) {
		t.Errorf("%d batches are in memory, and the parts of %d", len(w.ents), len(w.parted))
	}
	clear(disk.ents)
	runtime.GC()
	if held.Value() != nil || gone.Value() != nil {
		t.Error("what was dropped is held by its parts")
	}
	runtime.KeepAlive(w)
}
