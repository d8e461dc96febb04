package log

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"
	"weak"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
)

// TestStoreAgainstModel checks the store on random appends, overwrites and cuts.
func TestStoreAgainstModel(t *testing.T) {
	rnd := testseed.Rand(t)
	disk := newModelDisk()
	w, err := NewStore(disk, 200)
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
				b := core.Base{Raft: at, Term: disk.term(at)}
				disk.base = at
				w.checkpointed(w.latest(), 0, b)
			}
		}
		first, _ := w.FirstIndex()
		if got, _ := w.LastIndex(); got != disk.last() || first != disk.base+1 {
			t.Fatalf("store [%d, %d], model [%d, %d]", first, got, disk.base+1, disk.last())
		}
		end := disk.last()
		for i := disk.base; i <= end; i++ {
			if got, err := w.Term(i); err != nil || got != disk.term(i) {
				t.Fatalf("term of %d is %d, %v, want %d", i, got, err, disk.term(i))
			}
		}
		if lo := disk.base + 1 + uint64(rnd.IntN(10)); lo <= disk.last() {
			ents, err := w.Entries(lo, disk.last()+1, 100)
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
	members := []Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}
	disk := sim.NewDisk(Boot(members))
	w, err := NewStore(disk, 1000)
	if err != nil {
		t.Fatal(err)
	}
	cp := core.Checkpoint{Version: core.CheckpointVersion, Position: core.Position{Raft: 9, Index: 5}, Base: core.Base{Raft: 9, Term: 2, Index: 5}, Members: members}
	snap := core.NewSnapshot(2, cp)
	if err := disk.StageSnapshot(snap, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	write := &core.Write{
		Snapshot: snap,
		Entries:  []*raftpb.Entry{{Index: new(uint64(10)), Term: new(uint64(2))}, {Index: new(uint64(11)), Term: new(uint64(2))}},
		Hard:     &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(11))},
	}
	if err := w.Persist([]*core.Write{write}); err != nil {
		t.Fatal(err)
	}
	hard, have, end, _ := disk.Recovered()
	if hard.GetCommit() != 11 || have.GetMetadata().GetIndex() != 9 || end != 11 {
		t.Errorf("commit %d, snapshot %d, last %d, want 11, 9, 11", hard.GetCommit(), have.GetMetadata().GetIndex(), end)
	}
	if last, _ := w.LastIndex(); last != 11 {
		t.Errorf("the store ends at %d, want 11", last)
	}
}

// TestPersistOverwritten: of a group of writes in which a later one overwrites what an earlier one holds, the last is on disk, and each holds what raft has given it: messages to
// others may hold the same.
func TestPersistOverwritten(t *testing.T) {
	disk := sim.NewDisk(Boot([]Member{{ID: 1, Name: "a"}}))
	w, err := NewStore(disk, 1000)
	if err != nil {
		t.Fatal(err)
	}
	entries := func(first, last, term uint64) (ents []*raftpb.Entry) {
		for i := first; i <= last; i++ {
			ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(term)})
		}
		return ents
	}
	old, replacing := entries(2, 5, 2), entries(3, 4, 3)
	held, want := slices.Clone(old), append(old[:1:1], replacing...)
	if err := w.Persist([]*core.Write{{Entries: old}, {Entries: replacing}}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(old, held) {
		t.Errorf("a write holds %v, and held %v before", old, held)
	}
	if last, _ := w.LastIndex(); last != 4 {
		t.Errorf("the store ends at %d, want 4", last)
	}
	have, err := disk.Entries(2, 5, 1<<20)
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("on disk is %v, want %v; %v", have, want, err)
	}
}

// TestMem_LargeAfterSmall: what is dropped is given up soon, also where there is much room in the array that held many small entries.
func TestMem_LargeAfterSmall(t *testing.T) {
	const large = 64 << 10
	limit := 32 * large
	w, err := NewStore(sim.NewDisk(Boot([]Member{{ID: 1, Name: "a"}})), limit)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(2)
	put := func(size int) weak.Pointer[raftpb.Entry] {
		e := &raftpb.Entry{Index: new(next), Term: new(uint64(1)), Data: make([]byte, size)}
		next++
		w.append([]*raftpb.Entry{e})
		return weak.Make(e)
	}
	for range 2 * limit / core.EntrySize(&raftpb.Entry{Data: []byte{1}}) {
		put(1)
	}
	var all []weak.Pointer[raftpb.Entry]
	for range 500 {
		all = append(all, put(large))
	}
	runtime.GC()
	held := 0
	for _, e := range all {
		if e.Value() != nil {
			held++
		}
	}
	if most := limit/large + limit/large/heldShare + 1; held > most {
		t.Errorf("%d large entries are held, and there is room for %d", held, most)
	}
	runtime.KeepAlive(w)
}

// TestMem_SmallEntries: the cache of recent entries counts what they take in memory, not only what is in them.
func TestMem_SmallEntries(t *testing.T) {
	limit := 100 * core.EntrySize(&raftpb.Entry{Data: []byte{1}})
	w, err := NewStore(sim.NewDisk(Boot([]Member{{ID: 1, Name: "a"}})), limit)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(1000) {
		w.append([]*raftpb.Entry{{Index: new(i + 2), Term: new(uint64(1)), Data: []byte{1}}})
	}
	if n := len(w.ents); n > 100 || n < 90 {
		t.Errorf("%d entries of one byte are kept in %d bytes", n, limit)
	}
	if got := core.Within(w.ents, uint64(limit/10)); len(got) != 10 {
		t.Errorf("%d entries are read at a time", len(got))
	}
}

// TestFetchVerifies: what is fetched for another member is verified beside the loop, which sends it as it is.
func TestFetchVerifies(t *testing.T) {
	disk := newModelDisk()
	w, err := NewStore(disk, 1)
	if err != nil {
		t.Fatal(err)
	}
	var ents []*raftpb.Entry
	for i := disk.last() + 1; len(ents) < 4; i++ {
		b := core.MakeBatch(1, nil)
		b.Add([]byte("record"))
		ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(uint64(1)), Data: bytes.Clone(b.Seal(i))})
	}
	lo := ents[0].GetIndex()
	disk.save(ents)
	w.append(ents)
	if got := w.Fetch(&core.Fetch{Lo: lo, Hi: lo + 2, MaxBytes: 1 << 20}); got.Err != nil || len(got.Entries) != 2 {
		t.Fatalf("%d entries, %v", len(got.Entries), got.Err)
	}
	ents[1].Data[len(ents[1].Data)-1] ^= 1
	if got := w.Fetch(&core.Fetch{Lo: lo, Hi: lo + 2, MaxBytes: 1 << 20}); !errors.As(got.Err, new(*ChecksumError)) {
		t.Errorf("damaged records are fetched: %v", got.Err)
	}
}
