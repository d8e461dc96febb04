package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

func batchOf(epoch, first uint64, records ...string) []byte {
	b := MakeBatch(epoch, nil)
	for _, r := range records {
		b.Add([]byte(r))
	}
	return b.Seal(first)
}

// oldBatchOf is a batch as it was before there were checksums.
func oldBatchOf(epoch, first uint64, records ...string) []byte {
	b := batchOf(epoch, first, records...)
	return append([]byte{kindOldBatch}, b[1+checksumSize:]...)
}

// TestOldBatch: what was written before there were checksums is still read.
func TestOldBatch(t *testing.T) {
	p := Position{Raft: 4, Index: 2, Epochs: []Epoch{{Epoch: 7, Raft: 3, First: 3}}}
	data := oldBatchOf(7, 3, "ab", "", "c")
	e := &raftpb.Entry{Index: new(uint64(5)), Term: new(uint64(1)), Data: data}
	h, err := p.Next(e)
	if err != nil || p.Index != 5 || Verify(e, "") != nil {
		t.Fatalf("%+v, %v", p, err)
	}
	if records := AppendRecords(nil, h.Header, data); len(records) != 3 || string(records[0].Data) != "ab" || string(records[2].Data) != "c" {
		t.Errorf("records: %+v", records)
	}
	if _, ok, err := Counts(e, p.Epochs); !ok || err != nil {
		t.Errorf("for a reader it counts: %v, %v", ok, err)
	}
}

// TestMutate_Checksum: of a batch of which one bit has changed that is noticed, whichever bit it is.
func TestMutate_Checksum(t *testing.T) {
	good := batchOf(7, 3, "hello", "", "world")
	for n := range good {
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[n] ^= 1 << bit
			damage := Verify(&raftpb.Entry{Index: new(uint64(5)), Data: bad}, "here")
			switch _, err := ParseHeader(bad); {
			case n == 0 && errors.Is(err, ErrFormat):
			case damage == nil || damage.Raft != 5 || damage.When != "here":
				t.Errorf("bit %d of byte %d: %v", bit, n, damage)
			case n >= BatchHeader && (damage.First != 3 || damage.Last != 5):
				t.Errorf("bit %d of byte %d: %v", bit, n, damage)
			}
		}
	}
}

func TestBatchLayout(t *testing.T) {
	got := batchOf(7, 3, "ab", "", "c")
	want := []byte{
		4, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0,
		2, 0, 0, 0, 'a', 'b', 0, 0, 0, 0, 1, 0, 0, 0, 'c',
	}
	binary.LittleEndian.PutUint32(want[1:], crc32.Checksum(want[5:], crc32.MakeTable(crc32.Castagnoli)))
	if !bytes.Equal(got, want) {
		t.Fatalf("the layout has changed:\n got %v\nwant %v", got, want)
	}
	h, err := ParseHeader(got)
	if err != nil || h != (Header{Epoch: 7, First: 3, Count: 3, size: BatchHeader}) {
		t.Fatalf("parseHeader: %+v, %v", h, err)
	}
	records := AppendRecords(nil, h, got)
	if err := CheckRecords(h, got); err != nil || len(records) != 3 || records[2].Index != 5 || records[2].Epoch != 7 || string(records[2].Data) != "c" || len(records[1].Data) != 0 {
		t.Fatalf("records: %+v, %v", records, err)
	}
}

// TestT17_DamagedBatch: no byte of a batch can be changed or cut off so that reading it panics, allocates
// without bound, or yields more bytes than there are.
func TestT17_DamagedBatch(t *testing.T) {
	check := func(data []byte) {
		h, err := ParseHeader(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%x: %v", data, err)
			}
			return
		}
		if err := CheckRecords(h, data); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%x: %v", data, err)
			}
			return
		}
		size := h.size
		for _, r := range AppendRecords(nil, h, data) {
			size += RecordHeader + len(r.Data)
		}
		if size != len(data) {
			t.Fatalf("%x: %d bytes of records out of %d", data, size, len(data))
		}
	}
	for _, good := range [][]byte{batchOf(7, 3, "hello", "", "world"), oldBatchOf(7, 3, "hello", "", "world")} {
		for n := range good {
			check(good[:n])
			for bit := range 8 {
				bad := slices.Clone(good)
				bad[n] ^= 1 << bit
				check(bad)
			}
		}
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(batchOf(1, 1, "a"))
	f.Add(oldBatchOf(7, 3, "hello", "", "world"))
	f.Add(batchOf(7, 3, "hello", "", "world"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := Position{Raft: 4, Index: 2, Epochs: []Epoch{{Epoch: 7, Raft: 3, First: 3}}}
		before := p.Index
		h, err := p.Next(&raftpb.Entry{Index: new(uint64(5)), Term: new(uint64(1)), Data: data})
		if err != nil {
			return
		}
		var records []Entry
		if h.Count > 0 {
			records = AppendRecords(nil, h.Header, data)
		}
		if p.Index != before+uint64(len(records)) {
			t.Fatalf("%d records moved the index from %d to %d", len(records), before, p.Index)
		}
	})
}

// TestG2_FencedAtApply: the epoch in force decides at apply, whatever stands in the log.
func TestG2_FencedAtApply(t *testing.T) {
	var p Position
	var records []Entry
	apply := func(term uint64, data []byte) {
		t.Helper()
		h, err := p.Next(&raftpb.Entry{Index: new(p.Raft + 1), Term: &term, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if h.Count > 0 {
			records = AppendRecords(records, h.Header, data)
		}
	}
	start := func(holder string) []byte { return EncodeStart(holder, nil) }
	apply(1, nil) // raft's own
	apply(1, batchOf(1, 1, "before any epoch"))
	apply(1, start("a"))
	apply(1, batchOf(1, 1, "one", "two"))
	apply(1, start("a")) // again, in the same term
	apply(1, batchOf(1, 3, "stale"))
	apply(1, batchOf(2, 3, "three"))
	apply(2, start("b"))
	apply(2, batchOf(2, 4, "stale"))
	apply(2, batchOf(4, 4, "from the future"))
	apply(2, batchOf(3, 4, "four"))
	var got []string
	for i, r := range records {
		if r.Index != uint64(i+1) {
			t.Errorf("record %d has index %d", i+1, r.Index)
		}
		got = append(got, string(r.Data))
	}
	if want := []string{"one", "two", "three", "four"}; !slices.Equal(got, want) {
		t.Errorf("applied %q, want %q", got, want)
	}
	if e := p.Epoch(); e.Epoch != 3 || e.Holder != "b" || e.Term != 2 || e.First != 4 {
		t.Errorf("in force: %+v", e)
	}
	if e := epochAt(p.Epochs, 6); e.Epoch != 2 {
		t.Errorf("at raft index 6: %+v", e)
	}
	bad := &raftpb.Entry{Index: new(p.Raft + 1), Term: new(uint64(2)), Data: batchOf(3, 9, "a hole before it")}
	if _, err := p.Next(bad); !errors.Is(err, ErrFormat) {
		t.Errorf("a batch with a hole before it: %v", err)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	c := Checkpoint{
		Version: CheckpointVersion,
		Position: Position{Raft: 90, Index: 70, ClusterID: [16]byte{1, 2, 3}, Epochs: []Epoch{
			{Epoch: 1, Holder: "a", Term: 2, Raft: 3, First: 1}, {Epoch: 2, Holder: "b", Term: 4, Raft: 50, First: 40},
		}},
		Base: Base{Raft: 10, Term: 2, Index: 7}, Terms: []TermRun{{From: 10, Term: 2}, {From: 49, Term: 4}},
	}
	snap := NewSnapshot(4, c)
	got, err := ParseCheckpoint(snap)
	if err != nil || got.Base != c.Base || got.Position.Index != 70 || got.Position.ClusterID != c.Position.ClusterID ||
		!slices.Equal(got.Position.Epochs, c.Position.Epochs) || !slices.Equal(got.Terms, c.Terms) {
		t.Fatalf("came back as %+v, %v", got, err)
	}
	data := snap.Data
	for n := range data {
		snap.Data = data[:n]
		if _, err := ParseCheckpoint(snap); !errors.Is(err, ErrFormat) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	a, b := Boot([]Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}}), Boot([]Member{{ID: 2, Name: "b"}, {ID: 1, Name: "a"}})
	if !bytes.Equal(a.Data, b.Data) || !slices.Equal(a.Metadata.ConfState.Voters, b.Metadata.ConfState.Voters) {
		t.Error("the order of the members changes the first checkpoint")
	}
}

// Batch.Free relies on it that raft keeps nothing of what is proposed.
func TestRaftCopies(t *testing.T) {
	store := raft.NewMemoryStorage()
	if err := store.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{1}},
	}}); err != nil {
		t.Fatal(err)
	}
	node, err := raft.NewRawNode(&raft.Config{
		ID: 1, ElectionTick: 2, HeartbeatTick: 1, Storage: store, MaxInflightMsgs: 1, MaxSizePerMsg: math.MaxUint64, AsyncStorageWrites: true,
	})
	if err == nil {
		err = node.Campaign()
	}
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("record")
	proposed := false
	for node.HasReady() {
		for _, m := range node.Ready().Messages {
			for _, e := range m.GetEntries() {
				if len(e.Data) > 0 && string(e.Data) != "record" {
					t.Fatalf("raft shares what was proposed: %q", e.Data)
				}
				if len(e.Data) > 0 {
					return
				}
			}
			for _, r := range m.GetResponses() {
				_ = node.Step(r)
			}
		}
		if node.BasicStatus().RaftState == raft.StateLeader && !proposed {
			proposed = true
			if err := node.Propose(data); err != nil {
				t.Fatal(err)
			}
			data[0] = 0
		}
	}
	t.Fatal("the entry was not seen")
}
