package log

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sum"
	"github.com/baton-ha/baton/internal/testseed"
)

// A commonLog is a store with what was put into it.
type commonLog struct {
	t       *testing.T
	store   *Store
	disk    *modelDisk
	pos     core.Position
	records []Entry // all of them
	largest int     // batch, in bytes
}

func newCommonLog(t *testing.T, limit int) *commonLog {
	disk := newModelDisk()
	w, err := NewStore(disk, limit)
	if err != nil {
		t.Fatal(err)
	}
	w.partSize.Store(64 << 10)
	l := &commonLog{t: t, store: w, disk: disk, pos: w.position()}
	l.pos.Epochs = nil
	return l
}

// entry commits a raft entry.
func (l *commonLog) entry(data []byte) *raftpb.Entry {
	next := l.disk.last() + 1
	e := &raftpb.Entry{Index: new(next), Term: new(uint64(1)), Data: data}
	l.disk.save([]*raftpb.Entry{{Index: e.Index, Term: e.Term, Data: bytes.Clone(data)}})
	l.store.append([]*raftpb.Entry{e})
	l.pos.Raft, l.pos.Index = next, uint64(len(l.records))
	var accepted []*raftpb.Entry
	if _, ok, err := core.Counts(e, l.pos.Epochs); err == nil && ok {
		accepted = append(accepted, e)
	}
	l.store.commit(l.pos, accepted)
	return e
}

// epoch begins the next one.
func (l *commonLog) epoch() {
	n := uint64(len(l.pos.Epochs)) + 1
	l.pos.Epochs = append(l.pos.Epochs[:n-1:n-1], Epoch{Epoch: n, Raft: l.disk.last() + 1, First: uint64(len(l.records)) + 1})
	l.entry(core.EncodeStart("a", nil))
}

// batch commits records in one batch, which belong to a request if that says so.
func (l *commonLog) batch(request bool, records ...[]byte) *raftpb.Entry {
	epoch := uint64(len(l.pos.Epochs))
	b := core.MakeBatch(epoch, nil)
	first := uint64(len(l.records)) + 1
	if request {
		b.AddRequest(core.RequestID{Session: core.SessionID{Epoch: 1, Number: 1}, Number: first}, records)
	}
	for _, r := range records {
		l.records = append(l.records, Entry{Index: uint64(len(l.records)) + 1, Epoch: epoch, Data: r})
		if !request {
			b.Add(r)
		}
	}
	l.largest = max(l.largest, b.Size())
	return l.entry(bytes.Clone(b.Seal(first)))
}

// read has a reader read once, and checks what it is given.
func (l *commonLog) read(r *reader, limit int) []Part {
	l.t.Helper()
	r.limit = limit
	next := r.next
	piece, _, err := r.read()
	if err != nil {
		l.t.Fatalf("from %d: %v", next, err)
	}
	size := 0
	for i, p := range piece.Parts {
		if sum.Update(p.Before, p.Data) != p.After {
			l.t.Fatalf("from %d: the checksum of records %d to %d is another", next, p.First, p.First+uint64(p.Count)-1)
		}
		if p.First != next || p.Count > 1 && len(p.Data) > 64<<10 {
			l.t.Fatalf("from %d: a part of %d records and %d bytes begins with %d", next, p.Count, len(p.Data), p.First)
		}
		if size += len(p.Data); i > 0 && size > max(limit, l.largest, 64<<10) {
			l.t.Fatalf("from %d: %d bytes are given at a time, the limit is %d", next, size, limit)
		}
		for rest := p.Data; len(rest) > 0; next++ {
			n := core.RecordHeader + int(binary.LittleEndian.Uint32(rest))
			if want := l.records[next-1]; want.Epoch != piece.Epoch || !bytes.Equal(want.Data, rest[core.RecordHeader:n]) {
				l.t.Fatalf("record %d of epoch %d is not what was appended in epoch %d", next, piece.Epoch, want.Epoch)
			}
			rest = rest[n:]
		}
	}
	if next != r.next {
		l.t.Fatalf("the reader stands at %d, and was given what is before %d", r.next, next)
	}
	return piece.Parts
}

// TestCommon: who has read everything, one shortly after the other, is given the same memory, also if more was committed meanwhile; a single reader
// is not; and nothing is kept when nobody reads any more.
func TestCommon(t *testing.T) {
	l := newCommonLog(t, 1<<20)
	w := l.store
	l.epoch()
	readers := [3]reader{}
	for i := range readers {
		readers[i] = reader{store: w, next: 1, passing: true, part: 64 << 10}
	}
	w.common.enter()
	l.batch(false, []byte("one"), []byte("two"))
	l.read(&readers[0], pieceBytes)
	readers[0].passed()
	if w.common.findLocked(1) != nil {
		t.Error("what a single reader is given is kept")
	}
	w.common.enter()
	w.common.enter()
	readers[0] = reader{store: w, next: 1, passing: true, part: 64 << 10}
	one := slices.Clone(l.read(&readers[0], pieceBytes))
	l.batch(true, []byte("three"))
	two := l.read(&readers[1], pieceBytes)
	if len(one) != 1 || len(two) != 1 || &one[0].Data[0] != &two[0].Data[0] {
		t.Fatalf("%d and then %d parts are given, or not the same memory", len(one), len(two))
	}
	next := l.read(&readers[0], pieceBytes)
	two = l.read(&readers[1], pieceBytes)
	if len(next) != 1 || len(two) != 1 || &next[0].Data[0] != &two[0].Data[0] {
		t.Error("what another reader was given is put together again")
	}
	three := l.read(&readers[2], pieceBytes)
	if len(three) != 2 || &three[0].Data[0] != &one[0].Data[0] || &three[1].Data[0] != &two[0].Data[0] {
		t.Error("the third reader is given something else")
	}
	for i := range readers {
		if readers[i].piece.Cut {
			t.Error("a reader who has been given what others were is told that there was more than is read at a time")
		}
	}
	l.batch(false, []byte("four"))
	l.epoch()
	l.batch(false, []byte("five"))
	slow := reader{store: w, next: 1, passing: true, part: 64 << 10}
	for slow.next <= 5 {
		if l.read(&slow, 1); slow.piece.Cut != (slow.next <= 5) {
			t.Errorf("of 5 records %d were read, one batch at a time: there is more is %v", slow.next-1, slow.piece.Cut)
		}
		slow.passed()
	}
	for i := range readers {
		for readers[i].next <= 5 {
			l.read(&readers[i], pieceBytes)
		}
	}
	for range readers {
		w.common.leave()
	}
	for _, p := range w.common.kept {
		if p.Data != nil {
			t.Error("a part is kept that nobody reads")
		}
	}
}

// TestCommon_Damage: of what was written to, what is put together is what was appended.
func TestCommon_Damage(t *testing.T) {
	l := newCommonLog(t, 1<<20)
	l.epoch()
	l.store.common.enter()
	l.store.common.enter()
	for range 2 {
		e := l.batch(false, []byte("some"), []byte("more"))
		e.Data[len(e.Data)-1] ^= 1
	}
	a, b := reader{store: l.store, next: 1, part: 64 << 10}, reader{store: l.store, next: 1, part: 64 << 10}
	l.read(&a, pieceBytes)
	l.read(&b, pieceBytes)
}

// TestCommon_Any: readers who stand anywhere, with any room, are given each record once, whatever is committed meanwhile and is in memory or not.
func TestCommon_Any(t *testing.T) {
	rnd := testseed.Rand(t)
	for round := range 12 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			l := newCommonLog(t, 100<<10)
			l.epoch()
			add := func() {
				if rnd.IntN(8) == 0 {
					l.epoch()
				}
				var records [][]byte
				size := []int{1, 100, 2000, 30000, 70000}[rnd.IntN(5)]
				for range 1 + rnd.IntN(12) {
					records = append(records, bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN(size)))
				}
				l.batch(rnd.IntN(3) == 0, records...)
			}
			add()
			var readers []*reader
			for range 6 {
				l.store.common.enter()
				readers = append(readers, &reader{store: l.store, next: 1 + rnd.Uint64N(uint64(len(l.records))), passing: true, part: 64 << 10})
			}
			for step := range 400 {
				if step < 300 && rnd.IntN(3) == 0 {
					add()
				}
				r := readers[rnd.IntN(len(readers))]
				if r.next <= uint64(len(l.records)) {
					l.read(r, []int{1, 5000, pieceBytes, pieceBytes, pieceBytes}[rnd.IntN(5)])
					r.passed()
				}
			}
		})
	}
}
