package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/sim"
)

func batchOf(epoch, first uint64, records ...string) []byte {
	b := NewBatch(epoch, 16)
	for _, r := range records {
		b.Add([]byte(r))
	}
	return b.seal(first)
}

// oldBatchOf is a batch as it was before there were checksums.
func oldBatchOf(epoch, first uint64, records ...string) []byte {
	b := batchOf(epoch, first, records...)
	return append([]byte{kindOldBatch}, b[1+checksumSize:]...)
}

// TestOldBatch: what was written before there were checksums is still read.
func TestOldBatch(t *testing.T) {
	p := position{Raft: 4, Index: 2, Epochs: []Epoch{{Epoch: 7, Raft: 3, First: 3}}}
	data := oldBatchOf(7, 3, "ab", "", "c")
	e := &raftpb.Entry{Index: new(uint64(5)), Term: new(uint64(1)), Data: data}
	h, err := p.next(e)
	if err != nil || p.Index != 5 || verify(e, "") != nil {
		t.Fatalf("%+v, %v", p, err)
	}
	if records := appendRecords(nil, h, data); len(records) != 3 || string(records[0].Data) != "ab" || string(records[2].Data) != "c" {
		t.Errorf("records: %+v", records)
	}
	if _, ok, err := counts(e, p.Epochs); !ok || err != nil {
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
			damage := verify(&raftpb.Entry{Index: new(uint64(5)), Data: bad}, "here")
			switch _, err := parseHeader(bad); {
			case n == 0 && errors.Is(err, ErrFormat):
			case damage == nil || damage.Raft != 5 || damage.When != "here":
				t.Errorf("bit %d of byte %d: %v", bit, n, damage)
			case n >= batchHeader && (damage.First != 3 || damage.Last != 5):
				t.Errorf("bit %d of byte %d: %v", bit, n, damage)
			}
		}
	}
}

// TestMutate_DamagedMessage: damaged records that another member sends do not get as far as the disk.
func TestMutate_DamagedMessage(t *testing.T) {
	l := &Log{cfg: Config{Clock: func() time.Duration { return time.Hour }, Core: CoreConfig{Logger: slog.New(slog.DiscardHandler)}}}
	l.inbox = inbox{wake: make(chan struct{}, 1), drained: make(chan struct{}, 1)}
	send := func(data []byte) int {
		entries := []*raftpb.Entry{{Index: new(uint64(4))}, {Index: new(uint64(5)), Data: data}}
		l.Receive(&raftpb.Message{Type: new(raftpb.MsgApp), Entries: entries})
		events, _ := l.inbox.take()
		return len(events)
	}
	good := batchOf(7, 3, "hello")
	bad := slices.Clone(good)
	bad[len(bad)-1] ^= 0x55
	if send(good) != 1 || send(oldBatchOf(7, 3, "hello")) != 1 {
		t.Error("good records are dropped")
	}
	if send(bad) != 0 {
		t.Error("damaged records are taken")
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
	h, err := parseHeader(got)
	if err != nil || h != (header{epoch: 7, first: 3, count: 3, size: batchHeader}) {
		t.Fatalf("parseHeader: %+v, %v", h, err)
	}
	records := appendRecords(nil, h, got)
	if err := checkRecords(h, got); err != nil || len(records) != 3 || records[2].Index != 5 || records[2].Epoch != 7 || string(records[2].Data) != "c" || len(records[1].Data) != 0 {
		t.Fatalf("records: %+v, %v", records, err)
	}
}

// TestT17_DamagedBatch: no byte of a batch can be changed or cut off so that reading it panics, allocates
// without bound, or yields more bytes than there are.
func TestT17_DamagedBatch(t *testing.T) {
	check := func(data []byte) {
		h, err := parseHeader(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%x: %v", data, err)
			}
			return
		}
		if err := checkRecords(h, data); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%x: %v", data, err)
			}
			return
		}
		size := h.size
		for _, r := range appendRecords(nil, h, data) {
			size += recordHeader + len(r.Data)
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
		p := position{Raft: 4, Index: 2, Epochs: []Epoch{{Epoch: 7, Raft: 3, First: 3}}}
		before := p.Index
		h, err := p.next(&raftpb.Entry{Index: new(uint64(5)), Term: new(uint64(1)), Data: data})
		if err != nil {
			return
		}
		var records []Entry
		if h.count > 0 {
			records = appendRecords(nil, h, data)
		}
		if p.Index != before+uint64(len(records)) {
			t.Fatalf("%d records moved the index from %d to %d", len(records), before, p.Index)
		}
	})
}

// TestG2_FencedAtApply: the epoch in force decides at apply, whatever stands in the log.
func TestG2_FencedAtApply(t *testing.T) {
	var p position
	var records []Entry
	apply := func(term uint64, data []byte) {
		t.Helper()
		h, err := p.next(&raftpb.Entry{Index: new(p.Raft + 1), Term: &term, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if h.count > 0 {
			records = appendRecords(records, h, data)
		}
	}
	start := func(holder string) []byte { return encodeMsgpack([]byte{kindEpochStart}, epochStart{Holder: holder}) }
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
	if e := p.epoch(); e.Epoch != 3 || e.Holder != "b" || e.Term != 2 || e.First != 4 {
		t.Errorf("in force: %+v", e)
	}
	if e := epochAt(p.Epochs, 6); e.Epoch != 2 {
		t.Errorf("at raft index 6: %+v", e)
	}
	bad := &raftpb.Entry{Index: new(p.Raft + 1), Term: new(uint64(2)), Data: batchOf(3, 9, "a hole before it")}
	if _, err := p.next(bad); !errors.Is(err, ErrFormat) {
		t.Errorf("a batch with a hole before it: %v", err)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	c := checkpoint{
		Version: checkpointVersion,
		Position: position{Raft: 90, Index: 70, ClusterID: [16]byte{1, 2, 3}, Epochs: []Epoch{
			{Epoch: 1, Holder: "a", Term: 2, Raft: 3, First: 1}, {Epoch: 2, Holder: "b", Term: 4, Raft: 50, First: 40},
		}},
		Base: base{Raft: 10, Term: 2, Index: 7}, Terms: []termRun{{From: 10, Term: 2}, {From: 49, Term: 4}},
	}
	snap := newSnapshot(4, &raftpb.ConfState{Voters: []uint64{1, 2, 3}}, c)
	got, err := parseCheckpoint(snap)
	if err != nil || got.Base != c.Base || got.Position.Index != 70 || got.Position.ClusterID != c.Position.ClusterID ||
		!slices.Equal(got.Position.Epochs, c.Position.Epochs) || !slices.Equal(got.Terms, c.Terms) {
		t.Fatalf("came back as %+v, %v", got, err)
	}
	data := snap.Data
	for n := range data {
		snap.Data = data[:n]
		if _, err := parseCheckpoint(snap); !errors.Is(err, ErrFormat) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	a, b := Boot([]Member{{1, "a"}, {2, "b"}}), Boot([]Member{{2, "b"}, {1, "a"}})
	if !bytes.Equal(a.Data, b.Data) || !slices.Equal(a.Metadata.ConfState.Voters, b.Metadata.ConfState.Voters) {
		t.Error("the order of the members changes the first checkpoint")
	}
}

// TestWindowAgainstModel checks the window on random appends, overwrites and cuts.
func TestWindowAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	disk := newModelDisk()
	w, err := newWindow(disk, 200)
	if err != nil {
		t.Fatal(err)
	}
	term := uint64(1)
	for range 600 {
		last := disk.last()
		switch rnd.IntN(10) {
		default:
			var ents []*raftpb.Entry
			for range 1 + rnd.IntN(4) {
				last++
				ents = append(ents, &raftpb.Entry{Index: new(last), Term: new(term), Data: make([]byte, rnd.IntN(40))})
			}
			disk.save(ents)
			w.append(ents)
		case 0: // a new leader overwrites a tail
			term++
			from := max(disk.base+1, last-min(last, uint64(rnd.IntN(12))))
			e := []*raftpb.Entry{{Index: new(from), Term: new(term), Data: []byte("new")}}
			disk.save(e)
			w.append(e)
		case 1:
			if at := disk.base + uint64(rnd.IntN(40)); at <= last && at > disk.base {
				b := base{Raft: at, Term: disk.term(at)}
				disk.base = at
				w.checkpointed(w.latest(), b)
			}
		}
		first, _ := w.FirstIndex()
		if got, _ := w.LastIndex(); got != disk.last() || first != disk.base+1 {
			t.Fatalf("window [%d, %d], model [%d, %d]", first, got, disk.base+1, disk.last())
		}
		end := disk.last()
		for i := disk.base; i <= end; i++ {
			if got, err := w.Term(i); err != nil || got != disk.term(i) {
				t.Fatalf("term of %d is %d, %v, want %d", i, got, err, disk.term(i))
			}
		}
		if lo := disk.base + 1 + uint64(rnd.IntN(10)); lo <= disk.last() {
			ents, err := w.entries(lo, disk.last()+1, 100)
			if err != nil || len(ents) == 0 {
				t.Fatalf("entries from %d: %d, %v", lo, len(ents), err)
			}
			for i, e := range ents {
				if e != disk.ents[lo+uint64(i)] {
					t.Fatalf("entry %d is %v, want %v", lo+uint64(i), e, disk.ents[lo+uint64(i)])
				}
			}
		}
	}
}

// TestPersistSnapshotWithEntries: raft may ask in one write for a snapshot, for entries behind it, and for a commit
// index that is ahead of the snapshot. A disk takes the commit only with the entries.
func TestPersistSnapshotWithEntries(t *testing.T) {
	members := []Member{{1, "a"}, {2, "b"}, {3, "c"}}
	disk := sim.NewDisk(Boot(members))
	w, err := newWindow(disk, 1000)
	if err != nil {
		t.Fatal(err)
	}
	cp := checkpoint{Version: checkpointVersion, Position: position{Raft: 9, Index: 5}, Base: base{Raft: 9, Term: 2, Index: 5}, Members: members}
	snap := newSnapshot(2, w.latest().GetMetadata().GetConfState(), cp)
	if err := disk.StageSnapshot(snap, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	write := &Write{
		Snapshot: snap,
		Entries:  []*raftpb.Entry{{Index: new(uint64(10)), Term: new(uint64(2))}, {Index: new(uint64(11)), Term: new(uint64(2))}},
		Hard:     &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(11))},
	}
	if err := w.persist([]*Write{write}); err != nil {
		t.Fatal(err)
	}
	hard, have, end, _ := disk.Recovered()
	if hard.GetCommit() != 11 || have.GetMetadata().GetIndex() != 9 || end != 11 {
		t.Errorf("commit %d, snapshot %d, last %d, want 11, 9, 11", hard.GetCommit(), have.GetMetadata().GetIndex(), end)
	}
	if last, _ := w.LastIndex(); last != 11 {
		t.Errorf("the window ends at %d, want 11", last)
	}
}

// Batch.free relies on it that raft keeps nothing of what is proposed.
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

// TestMem_SmallEntries: the cache of recent entries counts what they take in memory, not only what is in them.
func TestMem_SmallEntries(t *testing.T) {
	const limit = 100 * (1 + entryOverhead)
	w, err := newWindow(sim.NewDisk(Boot([]Member{{1, "a"}})), limit)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(1000) {
		w.append([]*raftpb.Entry{{Index: new(i + 2), Term: new(uint64(1)), Data: []byte{1}}})
	}
	if n := len(w.ents); n > 100 || n < 90 {
		t.Errorf("%d entries of one byte are kept in %d bytes", n, limit)
	}
	if got := within(w.ents, 10*(1+entryOverhead)); len(got) != 10 {
		t.Errorf("%d entries are read at a time", len(got))
	}
}
