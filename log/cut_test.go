package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/sim"
)

var cutMembers = []Member{{1, "a"}, {2, "b"}, {3, "c"}}

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

// cutCore returns a core with entries 2 to 101, committed: entry 2 starts epoch 1, and from 3 on entry i is the
// batch of record i-2. All but the last few are on disk only.
func cutCore(t *testing.T, disk Storage) *Core {
	t.Helper()
	ents := []*raftpb.Entry{{Index: new(uint64(2)), Term: new(uint64(2)), Data: encodeMsgpack([]byte{kindEpochStart}, epochStart{Holder: "a"})}}
	for i := uint64(3); i <= 101; i++ {
		b := NewBatch(1, 10)
		b.Add([]byte("0123456789"))
		ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(uint64(2)), Data: bytes.Clone(b.seal(i - 2))})
	}
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(101))}
	if err := disk.Save(hard, ents); err != nil {
		t.Fatal(err)
	}
	c, err := NewCore(CoreConfig{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)}, disk, 100, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	eff, err := c.Step(time.Hour) // it commits
	for err == nil && len(eff.Fetches) > 0 {
		eff, err = c.Step(time.Hour, c.Read(eff.Fetches[0]))
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.store.pos.Index < 90 { // the rest is handed out once that is applied
		t.Fatalf("committed up to record %d", c.store.pos.Index)
	}
	return c
}

// at is the position after raft entry i.
func at(c *Core, i uint64) position {
	return position{Raft: i, Index: i - 2, Epochs: c.pos.Epochs}
}

// own makes a checkpoint of this member after raft entry i, which keeps the log behind entry keep.
func own(t *testing.T, c *Core, i, keep uint64) {
	t.Helper()
	b := base{Raft: keep, Term: 2, Index: keep - 2}
	snap := newSnapshot(2, c.store.latest().GetMetadata().GetConfState(), checkpoint{
		Version: checkpointVersion, Position: at(c, i), Base: b, Terms: c.store.termsUpTo(b, i), Members: cutMembers})
	if err := c.store.disk.SaveSnapshot(snap, nil); err != nil {
		t.Fatal(err)
	}
	c.store.checkpointed(snap, b)
	if err := c.store.disk.Compact(keep); err != nil {
		t.Fatal(err)
	}
}

// leaders makes a snapshot of the leader ready to be installed.
func leaders(t *testing.T, c *Core, i uint64) *raftpb.Snapshot {
	t.Helper()
	snap := newSnapshot(2, c.store.latest().GetMetadata().GetConfState(), checkpoint{
		Version: checkpointVersion, Position: at(c, i), Base: base{Raft: i, Term: 2, Index: i - 2}, Members: cutMembers})
	if err := c.store.disk.StageSnapshot(snap, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	return snap
}

func install(t *testing.T, c *Core, snap *raftpb.Snapshot) {
	t.Helper()
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: snap.GetMetadata().Index}
	if err := c.Persist([]*Write{{Hard: hard, Snapshot: snap}}); err != nil {
		t.Fatal(err)
	}
}

// firstOf subscribes, and returns the first record that comes, or the error.
func firstOf(c *Core, from uint64) (Entry, error) {
	l := &Log{store: c.store}
	for e, err := range l.Subscribe(context.Background(), from) {
		return e, err
	}
	return Entry{}, io.EOF
}

// TestLogIsCutWhileItIsRead: raft hears ErrCompacted, by which it sends a snapshot, and a subscriber a *CompactedError
// that says where the log begins, or it goes on behind the cut.
func TestLogIsCutWhileItIsRead(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, c *Core) (first uint64){
		"by two checkpoints": func(t *testing.T, c *Core) uint64 { own(t, c, 60, 50); own(t, c, 70, 60); return 59 },
		"by the leader": func(t *testing.T, c *Core) uint64 {
			install(t, c, leaders(t, c, 200))
			c.store.commit(at(c, 200), nil)
			return 199
		},
		"by the leader, which is not known yet": func(t *testing.T, c *Core) uint64 {
			snap := leaders(t, c, 200)
			if err := c.store.disk.InstallSnapshot(snap, nil); err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(time.Millisecond)
				cp, _ := parseCheckpoint(snap)
				c.store.installed(snap, cp)
			}()
			return 199
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := &cutDisk{Disk: sim.NewDisk(Boot(cutMembers))}
			c := cutCore(t, disk)
			disk.before = func() { cut(t, c) }
			if _, err := c.store.entries(10, 80, 1000); err != raft.ErrCompacted {
				t.Errorf("raft gets %v", err)
			}
			disk = &cutDisk{Disk: sim.NewDisk(Boot(cutMembers))}
			c = cutCore(t, disk)
			var first uint64
			disk.before = func() { first = cut(t, c) }
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
	check := NewCheckpointer(c, 1, 1)
	for i := uint64(50); i <= 90; i += 40 {
		a := &Apply{pos: at(c, i), term: 2, Bytes: 100}
		if !check.Due(a) {
			t.Fatal("not due")
		}
		err := check.Save(a, during(func() {
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
	if err := c.Persist([]*Write{{Entries: []*raftpb.Entry{{Index: new(uint64(201)), Term: new(uint64(2))}}}}); err != nil {
		t.Fatal(err)
	}
	a := &Apply{pos: at(c, 201), term: 2, Bytes: 100}
	if !check.Due(a) {
		t.Fatal("not due")
	}
	if err := check.Save(a, nil); err != nil {
		t.Fatal(err)
	}
	if cp, err := parseCheckpoint(c.store.latest()); err != nil || cp.Position.Raft != 201 || cp.Base.Raft != 200 {
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
	c, err := NewCore(CoreConfig{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)}, disk, 100, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.store.oldest(), (base{Raft: 55, Term: 2, Index: 53}); got != want {
		t.Errorf("base %+v, want %+v", got, want)
	}
	if _, err := c.Step(time.Hour); err != nil {
		t.Fatal(err)
	}
	var ce *CompactedError
	if _, err := firstOf(c, 53); !errors.As(err, &ce) || ce.First != 54 {
		t.Error(err)
	}
	if e, err := firstOf(c, 54); err != nil || e.Index != 54 {
		t.Error(e, err)
	}
	// Checkpoints that are older than the damaged one are made, and are honest.
	check := NewCheckpointer(c, 1, 1<<40)
	a := &Apply{pos: at(c, 70), term: 2, Bytes: 100}
	check.Due(a)
	if err := check.Save(a, nil); err != nil {
		t.Fatal(err)
	}
	_, snap, _, _ := disk.Recovered()
	cp, err := parseCheckpoint(snap)
	if err != nil || cp.Position.Raft != 70 || cp.Base != (base{Raft: 55, Term: 2, Index: 53}) {
		t.Error(fmt.Sprintf("%+v", cp), err)
	}
}
