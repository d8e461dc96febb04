package log

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/sim"
)

// TestManyEpochs_WhatIsHeldCanBeRead has more epochs than are kept for their own sake, each with a record and with
// one that came too late: what counts is known as far back as the log goes, also after a restart, and the
// history is cut with the log.
func TestManyEpochs_WhatIsHeldCanBeRead(t *testing.T) {
	const epochs = 2*minEpochs + 100
	disk := sim.NewDisk(Boot(cutMembers[:1]))
	index := uint64(1)
	var ents []*raftpb.Entry
	add := func(data []byte) {
		index++
		ents = append(ents, &raftpb.Entry{Index: new(index), Term: new(uint64(2)), Data: data})
	}
	batch := func(epoch, record uint64) {
		b := NewBatch(epoch, 10)
		b.Add([]byte("0123456789"))
		add(bytes.Clone(b.seal(record)))
	}
	for e := uint64(1); e <= epochs; e++ {
		add(encodeMsgpack([]byte{kindEpochStart}, epochStart{Holder: "a"}))
		if e > 1 {
			batch(e-1, e) // fenced
		}
		batch(e, e)
	}
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(index)}
	if err := disk.Save(hard, ents); err != nil {
		t.Fatal(err)
	}
	open := func() *Core {
		t.Helper()
		c, err := NewCore(CoreConfig{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond,
			Logger: slog.New(slog.DiscardHandler)}, disk, 1<<20, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var events []Event
		for c.pos.Raft < index {
			eff, err := c.Step(time.Hour, events...)
			if err != nil {
				t.Fatal(err)
			}
			events = nil
			for _, f := range eff.Fetches {
				events = append(events, c.Read(f))
			}
			for _, a := range eff.Applies {
				events = append(events, Applied{a})
			}
			if len(events) == 0 {
				t.Fatalf("it stands at raft entry %d of %d", c.pos.Raft, index)
			}
		}
		return c
	}
	read := func(c *Core, from uint64) {
		t.Helper()
		next := from
		for e, err := range (&Log{store: c.store}).Subscribe(context.Background(), from) {
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
	save := func(c *Core, b base) {
		t.Helper()
		checks := NewCheckpointer(c, 1, 1<<40)
		checks.made[0].base = b
		if err := checks.Save(&Apply{pos: c.pos, term: 2}, nil); err != nil {
			t.Fatal(err)
		}
	}
	save(c, c.store.oldest())
	c = open()
	read(c, 1)
	if got := len(c.pos.Epochs); got != epochs {
		t.Errorf("%d epochs are known after a restart, want %d", got, epochs)
	}
	// Cut in the middle: the history of what is held is kept, and no more.
	const first = 1000
	cut := c.pos.Epochs[first-1].Raft
	p := c.pos.since(cut)
	if p.Epochs[0].Epoch != first {
		t.Errorf("a log that begins in epoch %d keeps the history from %d on", first, p.Epochs[0].Epoch)
	}
	if p = c.pos.since(index); len(p.Epochs) != minEpochs {
		t.Errorf("a log that begins at its end keeps %d epochs, want %d", len(p.Epochs), minEpochs)
	}
	var ce *CompactedError
	w := &window{disk: disk, base: base{Raft: 1}, pos: p, changed: make(chan struct{})}
	if _, _, err := (&reader{store: w, next: 1}).read(); !errors.As(err, &ce) || ce.First != p.Epochs[0].First {
		t.Errorf("a log whose history does not reach back: %v", err)
	}
}
