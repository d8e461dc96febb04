package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/internal/sum"
	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// The encoder writes, byte for byte, what etcd's writes.
func TestEncoderIsEtcds(t *testing.T) {
	rnd := testseed.Rand(t)
	dir := filepath.Join(t.TempDir(), "wal")
	l, err := wal.Create(nil, dir, testID.metadata())
	must(t, err)
	e := new(encoder)
	e.chain()
	e.metadata(testID)
	must(t, e.snapshot(snapID{}, nil))
	boot := bootSnapshot()
	must(t, l.SaveSnapshot(&walpb.Snapshot{Index: new(idOf(boot).index), Term: new(idOf(boot).term), ConfState: boot.GetMetadata().GetConfState()}))
	must(t, e.snapshot(idOf(boot), boot.GetMetadata().GetConfState()))
	index := uint64(1)
	for range 300 {
		hs := hardState{1 + rnd.Uint64N(1<<rnd.IntN(64)), rnd.Uint64(), rnd.Uint64N(1 << rnd.IntN(64))}
		var ents []*raftpb.Entry
		for range rnd.IntN(4) {
			index += rnd.Uint64N(1 << rnd.IntN(50))
			p := entry(index, hs.term, rnd.IntN(1<<rnd.IntN(16)))
			p.Type = raftpb.EntryType(rnd.IntN(3)).Enum()
			if len(p.Data) > sum.Head && rnd.IntN(2) == 0 {
				sum.Seal(p.Data)
			}
			ents = append(ents, p)
			e.entry(p)
		}
		e.state(hs)
		must(t, l.Save(hs.proto(), ents))
	}
	must(t, l.Close())
	want, err := os.ReadFile(filepath.Join(dir, segmentName(0, 0)))
	must(t, err)
	if len(e.b) > len(want) || !bytes.Equal(e.b, want[:len(e.b)]) || !zero(want[len(e.b):]) {
		n := 0
		for n < min(len(e.b), len(want)) && e.b[n] == want[n] {
			n++
		}
		t.Fatalf("%d bytes, differ from offset %d on: %x, etcd has %x", len(e.b), n, e.b[n:min(n+32, len(e.b))], want[n:n+32])
	}
}

// TestMutate_BeforeSave: a batch that is not what was appended any more when it is written is found when it is read, by Open too.
func TestMutate_BeforeSave(t *testing.T) {
	rnd := testseed.Rand(t)
	for range 20 {
		dir := t.TempDir()
		w := mustOpen(t, dir)
		ents := entries(2, 6, 1, 5000+rnd.IntN(5000))
		for _, e := range ents {
			sum.Seal(e.Data)
		}
		data := ents[1].Data
		data[sum.Head+rnd.IntN(len(data)-sum.Head)] ^= 1 << rnd.IntN(8)
		must(t, w.Save(hard(1, 1, 1), ents))
		if got, err := w.Entries(2, 3, 1); err != nil || sameEntries(got, ents[:1]) != nil {
			t.Fatalf("the entry before: %v, %v", got, err)
		}
		var corrupt *CorruptError
		if got, err := w.Entries(3, 4, 1); !errors.As(err, &corrupt) {
			t.Fatalf("the damaged entry: %v, %v", got, err)
		}
		must(t, w.Close())
		if _, err := Open(dir, testOptions()); !errors.As(err, &corrupt) {
			t.Fatalf("opened with a damaged entry: %v", err)
		}
	}
}
