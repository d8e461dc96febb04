package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
)

var cutMembers = []Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}

// cutDisk does something just before it is asked for entries, as another goroutine might.
type cutDisk struct {
	*sim.Disk
	before func()
}

func (d *cutDisk) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if f := d.before; f != nil {
		d.before = nil
		f()
	}
	return d.Disk.Entries(lo, hi, maxBytes)
}

// encoded is a batch as it stands in the log.
func encoded(epoch, first uint64, records ...[]byte) []byte {
	b := core.MakeBatch(epoch, nil)
	for _, r := range records {
		b.Add(r)
	}
	return b.Seal(first)
}

// A cut is what a member holds, and its core.
type cut struct {
	core  *core.Core
	store *Store
}

func (c cut) epochs() []Epoch {
	c.store.mu.RLock()
	defer c.store.mu.RUnlock()
	return c.store.pos.Epochs
}

// openCut builds a core on a disk, and steps it until it asks for no more entries, or up to a raft entry if that is not 0.
func openCut(t *testing.T, disk Storage, limit int, upTo uint64) cut {
	t.Helper()
	store, err := NewStore(disk, limit)
	if err != nil {
		t.Fatal(err)
	}
	c, err := core.New(CoreConfig{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond}, store, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	for {
		eff, err := c.Step(time.Hour, events...)
		if err != nil {
			t.Fatal(err)
		}
		store.Stepped(c, eff)
		events = nil
		for _, f := range eff.Fetches {
			events = append(events, store.Fetch(f))
		}
		for _, a := range eff.Applies {
			if upTo != 0 {
				events = append(events, core.Applied{Apply: a})
			}
		}
		if len(events) == 0 || store.pos.Raft == upTo {
			return cut{c, store}
		}
	}
}

// cutCore returns a core with entries 2 to 101, committed: entry 2 starts epoch 1, and from 3 on entry i is the
// batch of record i-2. All but the last few are on disk only.
func cutCore(t *testing.T, disk Storage) cut {
	t.Helper()
	ents := []*raftpb.Entry{{Index: new(uint64(2)), Term: new(uint64(2)), Data: core.EncodeStart("a", nil)}}
	for i := uint64(3); i <= 101; i++ {
		ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(uint64(2)), Data: encoded(1, i-2, []byte("0123456789"))})
	}
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(101))}
	if err := disk.Save(hard, ents); err != nil {
		t.Fatal(err)
	}
	c := openCut(t, disk, 100, 0)
	if c.store.pos.Index < 90 { // the rest is handed out once that is applied
		t.Fatalf("committed up to record %d", c.store.pos.Index)
	}
	return c
}

// at is the position after raft entry i.
func at(c cut, i uint64) core.Position {
	return core.Position{Raft: i, Index: i - 2, Epochs: c.epochs()}
}

// own makes a checkpoint of this member after raft entry i, which keeps the log behind entry keep.
func own(t *testing.T, c cut, i, keep uint64) {
	t.Helper()
	b := core.Base{Raft: keep, Term: 2, Index: keep - 2}
	snap := core.NewSnapshot(2, core.Checkpoint{
		Version: core.CheckpointVersion, Position: at(c, i), Base: b, Terms: c.store.termsUpTo(b, i), Members: cutMembers})
	if err := c.store.disk.SaveSnapshot(snap, nil); err != nil {
		t.Fatal(err)
	}
	c.store.checkpointed(snap, i-2, b)
	if err := c.store.disk.Compact(keep); err != nil {
		t.Fatal(err)
	}
}

// leaders makes a snapshot of the leader ready to be installed.
func leaders(t *testing.T, c cut, i uint64) *raftpb.Snapshot {
	t.Helper()
	snap := core.NewSnapshot(2, core.Checkpoint{
		Version: core.CheckpointVersion, Position: at(c, i), Base: core.Base{Raft: i, Term: 2, Index: i - 2}, Members: cutMembers})
	if err := c.store.disk.StageSnapshot(snap, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	return snap
}

func install(t *testing.T, c cut, snap *raftpb.Snapshot) {
	t.Helper()
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: snap.GetMetadata().Index}
	if err := c.store.Persist([]*core.Write{{Hard: hard, Snapshot: snap}}); err != nil {
		t.Fatal(err)
	}
}

// firstOf subscribes, and returns the first record that comes, or the error.
func firstOf(c cut, from uint64) (Entry, error) {
	l := &Log{driver: driver{store: c.store}}
	for e, err := range l.Subscribe(context.Background(), from) {
		return e, err
	}
	return Entry{}, io.EOF
}

// TestLogIsCutWhileItIsRead: raft hears ErrCompacted, by which it sends a snapshot, and a subscriber a *CompactedError
// that says where the log begins, or it goes on behind the cut.
func TestLogIsCutWhileItIsRead(t *testing.T) {
	for name, doCut := range map[string]func(t *testing.T, c cut) (first uint64){
		"by two checkpoints": func(t *testing.T, c cut) uint64 { own(t, c, 60, 50); own(t, c, 70, 60); return 59 },
		"by the leader": func(t *testing.T, c cut) uint64 {
			install(t, c, leaders(t, c, 200))
			c.store.commit(at(c, 200), nil)
			return 199
		},
		"by the leader, which is not known yet": func(t *testing.T, c cut) uint64 {
			snap := leaders(t, c, 200)
			if err := c.store.disk.InstallSnapshot(snap, nil); err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(time.Millisecond)
				cp, _ := core.ParseCheckpoint(snap)
				c.store.installed(snap, cp)
			}()
			return 199
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := &cutDisk{Disk: sim.NewDisk(Boot(cutMembers))}
			c := cutCore(t, disk)
			disk.before = func() { doCut(t, c) }
			if _, err := c.store.Entries(10, 80, 1000); err != core.ErrNotHeld {
				t.Errorf("raft gets %v", err)
			}
			disk = &cutDisk{Disk: sim.NewDisk(Boot(cutMembers))}
			c = cutCore(t, disk)
			var first uint64
			disk.before = func() { first = doCut(t, c) }
			var ce *CompactedError
			if e, err := firstOf(c, 8); !errors.As(err, &ce) || ce.Index != 8 || ce.First != first {
				t.Errorf("a subscriber gets %v, %v, want a *CompactedError, first %d", e, err, first)
			}
		})
	}
	disk := &cutDisk{Disk: sim.NewDisk(Boot(cutMembers))}
	c := cutCore(t, disk)
	disk.before = func() { own(t, c, 60, 50); own(t, c, 70, 60) }
	if e, err := firstOf(c, 65); err != nil || e.Index != 65 {
		t.Errorf("a subscriber behind the cut gets %v, %v", e, err)
	}
}

// during is a body in the middle of which something happens.
type during func()

func (f during) WriteTo(w io.Writer) (int64, error) {
	f()
	n, err := w.Write([]byte("own"))
	return int64(n), err
}

// TestCheckpointMeetsLeadersSnapshot: a checkpoint that is overtaken while it is written ends quietly.
func TestCheckpointMeetsLeadersSnapshot(t *testing.T) {
	disk := sim.NewDisk(Boot(cutMembers))
	c := cutCore(t, disk)
	check := NewCheckpointer(c.store, 1, 1)
	for i := uint64(50); i <= 90; i += 40 {
		place, due := check.Due(&core.Apply{Position: at(c, i), Term: 2, Bytes: 100}, nil)
		if !due {
			t.Fatal("not due")
		}
		err := check.Save(place, during(func() {
			if i == 90 {
				install(t, c, leaders(t, c, 200))
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if b := c.store.oldest(); b.Raft != 200 || disk.First() != 201 || c.store.latest().GetMetadata().GetIndex() != 200 {
		t.Errorf("base %+v, first %d", b, disk.First())
	}
	// The next one stands on it.
	if err := c.store.Persist([]*core.Write{{Entries: []*raftpb.Entry{{Index: new(uint64(201)), Term: new(uint64(2))}}}}); err != nil {
		t.Fatal(err)
	}
	place, due := check.Due(&core.Apply{Position: at(c, 201), Term: 2, Bytes: 100}, nil)
	if !due {
		t.Fatal("not due")
	}
	if err := check.Save(place, nil); err != nil {
		t.Fatal(err)
	}
	if cp, err := core.ParseCheckpoint(c.store.latest()); err != nil || cp.Position.Raft != 201 || cp.Base.Raft != 200 {
		t.Errorf("%+v, %v", cp, err)
	}
}

// TestFallbackToOlderCheckpoint: the log was cut for the newest checkpoint, which is damaged. The member goes on from the
// one before, and claims no more of the log than is there.
func TestFallbackToOlderCheckpoint(t *testing.T) {
	disk := sim.NewDisk(Boot(cutMembers))
	c := cutCore(t, disk)
	own(t, c, 60, 20)
	own(t, c, 90, 55)
	if !disk.Damage() || disk.First() != 56 {
		t.Fatal("no fallback", disk.First())
	}
	c = openCut(t, disk, 100, 0)
	if got, want := c.store.oldest(), (core.Base{Raft: 55, Term: 2, Index: 53}); got != want {
		t.Errorf("base %+v, want %+v", got, want)
	}
	var ce *CompactedError
	if _, err := firstOf(c, 53); !errors.As(err, &ce) || ce.First != 54 {
		t.Error(err)
	}
	if e, err := firstOf(c, 54); err != nil || e.Index != 54 {
		t.Error(e, err)
	}
	// Checkpoints that are older than the damaged one are made, and are honest.
	check := NewCheckpointer(c.store, 1, 1<<40)
	place, _ := check.Due(&core.Apply{Position: at(c, 70), Term: 2, Bytes: 100}, nil)
	if err := check.Save(place, nil); err != nil {
		t.Fatal(err)
	}
	_, snap, _, _ := disk.Recovered()
	cp, err := core.ParseCheckpoint(snap)
	if err != nil || cp.Position.Raft != 70 || cp.Base != (core.Base{Raft: 55, Term: 2, Index: 53}) {
		t.Error(fmt.Sprintf("%+v", cp), err)
	}
}
