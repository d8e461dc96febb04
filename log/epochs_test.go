package log

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
)

// TestManyEpochs_WhatIsHeldCanBeRead has more epochs than are kept for their own sake, each with a record and with
// one that came too late: what counts is known as far back as the log goes, also after a restart, and the
// history is cut with the log.
func TestManyEpochs_WhatIsHeldCanBeRead(t *testing.T) {
	const epochs = 2*core.MinEpochs + 100
	disk := sim.NewDisk(Boot(cutMembers[:1]))
	index := uint64(1)
	var ents []*raftpb.Entry
	add := func(data []byte) {
		index++
		ents = append(ents, &raftpb.Entry{Index: new(index), Term: new(uint64(2)), Data: data})
	}
	batch := func(epoch, record uint64) {
		add(encoded(epoch, record, []byte("0123456789")))
	}
	for e := uint64(1); e <= epochs; e++ {
		add(core.EncodeStart("a", nil))
		if e > 1 {
			batch(e-1, e) // fenced
		}
		batch(e, e)
	}
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(index)}
	if err := disk.Save(hard, ents); err != nil {
		t.Fatal(err)
	}
	open := func() cut { return openCut(t, disk, 1<<20, index) }
	read := func(c cut, from uint64) {
		t.Helper()
		next := from
		for e, err := range (&Log{driver: driver{store: c.store}}).Subscribe(context.Background(), from) {
			if err != nil {
				t.Fatalf("record %d: %v", next, err)
			}
			if e.Index != next || e.Epoch != next {
				t.Fatalf("record %d of epoch %d, want record and epoch %d", e.Index, e.Epoch, next)
			}
			if next++; next > epochs {
				return
			}
		}
	}
	c := open()
	read(c, 1)
	save := func(c cut, b core.Base) {
		t.Helper()
		checks := NewCheckpointer(c.store, 1, 1<<40)
		checks.made[0].base = b
		if err := checks.Save(Place{pos: c.store.pos, term: 2}, nil); err != nil {
			t.Fatal(err)
		}
	}
	save(c, c.store.oldest())
	c = open()
	read(c, 1)
	if got := len(c.epochs()); got != epochs {
		t.Errorf("%d epochs are known after a restart, want %d", got, epochs)
	}
	// Cut in the middle: the history of what is held is kept, and no more.
	const first = 1000
	cut := c.epochs()[first-1].Raft
	p := c.store.pos.Since(cut)
	if p.Epochs[0].Epoch != first {
		t.Errorf("a log that begins in epoch %d keeps the history from %d on", first, p.Epochs[0].Epoch)
	}
	if p = c.store.pos.Since(index); len(p.Epochs) != core.MinEpochs {
		t.Errorf("a log that begins at its end keeps %d epochs, want %d", len(p.Epochs), core.MinEpochs)
	}
	var ce *CompactedError
	w := &Store{disk: disk, base: core.Base{Raft: 1}, pos: p, changed: make(chan struct{})}
	if _, _, err := (&reader{store: w, next: 1}).read(); !errors.As(err, &ce) || ce.First != p.Epochs[0].First {
		t.Errorf("a log whose history does not reach back: %v", err)
	}
}
