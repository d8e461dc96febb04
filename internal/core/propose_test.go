package core

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// alone is a cluster of one, stepped by hand.
type alone struct {
	t    *testing.T
	core *Core
	held *memory
	done []Done
}

func (a *alone) step(now time.Duration, events ...Event) {
	a.t.Helper()
	for len(events) > 0 {
		eff, err := a.core.Step(now, events...)
		if err != nil {
			a.t.Fatal(err)
		}
		events = nil
		for _, w := range eff.Writes {
			a.held.write(w)
			events = append(events, Written{Write: w})
		}
		for _, p := range eff.Applies {
			events = append(events, Applied{Apply: p})
		}
		a.done = append(a.done, eff.Done...)
	}
}

// TestG4_NoProposalWithoutLease: a leader that has slept past its lease refuses what was appended before it slept, by
// the clock alone, although nothing has told it yet.
func TestG4_NoProposalWithoutLease(t *testing.T) {
	held := newMemory(t, Boot([]Member{{ID: 1, Name: "a"}}), 100, nil)
	core, err := New(Config{
		ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond, Seed: 1,
	}, held, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a := &alone{t: t, core: core, held: held}
	now := time.Hour
	a.step(now, Tick{})
	a.step(now, Tick{}) // the first round of heartbeats
	a.step(now, StartEpoch{ClusterID: [16]byte{1}})
	propose := func(now time.Duration) error {
		a.done = nil
		b := new(MakeBatch(1, nil))
		b.Add([]byte("record"))
		a.step(now, Propose{Batch: b})
		if len(a.done) != 1 || a.done[0].Batch != b {
			t.Fatalf("at %v: answers %+v, want one", now, a.done)
		}
		return a.done[0].Err
	}
	if err := propose(now); err != nil {
		t.Fatalf("under the lease: %v", err)
	}
	if err := propose(now + time.Second); !errors.Is(err, ErrFenced) {
		t.Errorf("a second later, the lease being over: %v, want ErrFenced", err)
	}
	now += time.Second
	a.step(now, Tick{})
	if err := propose(now); err != nil {
		t.Errorf("under a new lease: %v", err)
	}
}

// TestRide: the start of an epoch travels with messages of this term only that it follows on directly.
func TestRide(t *testing.T) {
	message := func(typ raftpb.MessageType, term uint64, indexes ...uint64) *raftpb.Message {
		m := &raftpb.Message{Type: typ.Enum(), Term: new(term)}
		for _, i := range indexes {
			m.Entries = append(m.Entries, &raftpb.Entry{Index: new(i), Term: new(term)})
		}
		return m
	}
	all := []*raftpb.Message{
		message(raftpb.MsgApp, 5, 7, 8), message(raftpb.MsgApp, 5, 6, 7), message(raftpb.MsgApp, 5), message(raftpb.MsgApp, 4, 8),
		message(raftpb.MsgHeartbeat, 5),
	}
	first := all[0].Entries
	c := &Core{seen: seen{term: 5}, eff: Effects{Send: all}}
	c.ride([]*raftpb.Entry{{Index: new(uint64(9)), Term: new(uint64(5))}})
	for i, want := range []int{3, 2, 0, 1, 0} {
		if have := len(all[i].Entries); have != want {
			t.Errorf("message %d has %d entries, want %d", i, have, want)
		}
	}
	if all[0].Entries[2].GetIndex() != 9 || len(first) != 2 {
		t.Errorf("the first message has %v", all[0].Entries)
	}
}
