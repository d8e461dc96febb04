package core

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// lagging is the leader of three with a log of 400 entries of 64 KiB, all but the last few on disk only. Member 3 has nothing of it.
type lagging struct {
	t    *testing.T
	held *memory
	core *Core
	now  time.Duration
	sent []*raftpb.Message // to member 3
	asks []*Fetch
}

const laggingEntries, laggingSize = 400, 64 << 10

func newLagging(t *testing.T) *lagging {
	t.Helper()
	l := &lagging{t: t, now: time.Hour}
	ents := []*raftpb.Entry{{Index: new(uint64(2)), Term: new(uint64(2)), Data: EncodeStart("a", nil)}}
	for i := uint64(3); i < laggingEntries; i++ {
		b := MakeBatch(1, nil)
		b.Add(make([]byte, laggingSize))
		ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(uint64(2)), Data: slices.Clone(b.Seal(i - 2))})
	}
	hard := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(0)), Commit: new(uint64(2))}
	l.held = newMemory(t, Boot([]Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}), 1, hard, ents...)
	var err error
	l.core, err = New(Config{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond}, l.held, l.now)
	if err != nil {
		t.Fatal(err)
	}
	l.now += 2 * time.Second
	l.step(Tick{})
	l.answer() // what is committed is looked through for changes of the members before a campaign
	l.now += 100 * time.Millisecond
	l.step(Tick{})
	l.from(2, raftpb.MsgPreVoteResp, 0, 3)
	l.from(2, raftpb.MsgVoteResp, 0, 3)
	if l.core.state.String() != "StateLeader" {
		t.Fatal(l.core.state)
	}
	return l
}

// step steps the core and answers what it asks for but for fetches and what is to be applied.
func (l *lagging) step(events ...Event) {
	l.t.Helper()
	for len(events) > 0 {
		l.held.stepping = true
		eff, err := l.core.Step(l.now, events...)
		l.held.stepping = false
		if err != nil {
			l.t.Fatal(err)
		}
		events = nil
		for _, w := range eff.Writes {
			l.held.write(w)
			events = append(events, Written{Write: w})
		}
		for _, m := range eff.Send {
			if m.GetTo() == 3 && m.GetType() == raftpb.MsgApp {
				l.sent = append(l.sent, m)
			}
		}
		l.asks = append(l.asks, eff.Fetches...)
	}
}

// from lets a member say something.
func (l *lagging) from(id uint64, what raftpb.MessageType, index, term uint64) {
	l.t.Helper()
	l.step(Receive{Message: &raftpb.Message{Type: &what, From: &id, To: new(uint64(1)), Term: &term, Index: &index}, At: l.now})
}

// answer answers the oldest fetch.
func (l *lagging) answer() {
	l.t.Helper()
	f := l.asks[0]
	l.asks = l.asks[1:]
	l.step(l.held.fetch(f))
}

// TestG8_CatchUpReadsBesideTheLoop: a member that lags by more than what is in memory gets all of it, in order, although
// the core reads nothing from the disk itself; and what it has got does not stay in memory.
func TestG8_CatchUpReadsBesideTheLoop(t *testing.T) {
	l := newLagging(t)
	l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
	have, beats := uint64(1), 0
	reject := true // the leader probes at its own end first
	for rounds := 0; have < laggingEntries && rounds < 10_000; rounds++ {
		sent := l.sent
		l.sent = nil
		switch {
		case reject && len(sent) > 0:
			reject = false
			l.step(Receive{Message: &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(3)),
				Index: sent[0].Index, Reject: new(true), RejectHint: new(uint64(1)), LogTerm: new(uint64(1))}, At: l.now})
			continue
		case len(sent) == 0 && len(l.asks) > 0:
			l.answer()
			continue
		case len(sent) == 0:
			if beats++; beats > 3 {
				t.Fatal("what was fetched is not sent before the next heartbeat")
			}
			l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
			continue
		}
		for _, m := range sent {
			if m.GetIndex() > have {
				t.Fatalf("entries after %d, and the member has those up to %d", m.GetIndex(), have)
			}
			for i, e := range m.GetEntries() {
				if e.GetIndex() != m.GetIndex()+1+uint64(i) {
					t.Fatalf("entry %d at place %d of a message behind %d", e.GetIndex(), i, m.GetIndex())
				}
				have = max(have, e.GetIndex())
			}
			l.from(3, raftpb.MsgAppResp, have, 3)
		}
		kept := 0
		for _, r := range l.core.shelf.runs {
			kept += len(r.ents) * laggingSize
		}
		if kept > 3*int(l.core.shelf.fetchBytes) {
			t.Fatalf("%d bytes of fetched entries are kept", kept)
		}
	}
	if have != laggingEntries {
		t.Fatalf("the member has got the entries up to %d of %d", have, laggingEntries)
	}
	for len(l.asks) > 0 {
		l.answer()
	}
	if r := l.core.shelf.runs; len(r) > 1 { // what is to be applied, and nothing for the member that has all
		t.Errorf("%d parts of the log are kept for nobody", len(r))
	}
}

// TestFetchedAfterOverwrite: entries that were read before a new leader replaced them are of no use.
func TestFetchedAfterOverwrite(t *testing.T) {
	l := newLagging(t)
	l.core.shelf.want(300, 300, laggingEntries)
	l.step(Tick{})
	i := slices.IndexFunc(l.asks, func(f *Fetch) bool { return f.Lo == 300 })
	if i < 0 {
		t.Fatal("not asked for")
	}
	old := l.held.fetch(l.asks[i])
	// The leader of term 4 has another entry 5.
	l.step(Receive{Message: &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(4)),
		Index: new(uint64(4)), LogTerm: new(uint64(2)), Commit: new(uint64(2)),
		Entries: []*raftpb.Entry{{Index: new(uint64(5)), Term: new(uint64(4))}}}, At: l.now})
	l.step(old)
	for _, r := range l.core.shelf.runs {
		t.Errorf("entries from %d on of the leader before are still there", r.lo)
	}
}

// TestDamageStopsTheMember: what cannot be read from the disk is said with its place in the log.
func TestDamageStopsTheMember(t *testing.T) {
	l := newLagging(t)
	damage := errors.New("bad sector")
	l.held.err = damage
	l.core.shelf.want(300, 300, laggingEntries)
	l.step(Tick{})
	if _, err := l.core.Step(l.now, l.held.fetch(l.asks[len(l.asks)-1])); !errors.Is(err, damage) {
		t.Errorf("got %v", err)
	}
}

// TestMutate_DamagedEntryIsNotSent: a committed entry that somebody has written to goes to no other member; it is read from
// disk, beside the core, and then sent.
func TestMutate_DamagedEntryIsNotSent(t *testing.T) {
	l := newLagging(t)
	l.held.recent = 2 // all is in memory
	l.from(2, raftpb.MsgAppResp, laggingEntries, 3)
	l.step(Tick{})
	if l.core.pos.Raft < 10 {
		t.Fatal("nothing is committed", l.core.pos.Raft)
	}
	data := l.held.ents[5-2].GetData() // entry 5
	data[len(data)-1] ^= 1
	l.sent, l.asks = nil, nil
	l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
	probe := l.sent[0]
	l.sent = nil
	l.step(Receive{Message: &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(3)),
		Index: probe.Index, Reject: new(true), RejectHint: new(uint64(1)), LogTerm: new(uint64(1))}, At: l.now})
	for _, m := range l.sent {
		for _, e := range m.GetEntries() {
			if Verify(e, "") != nil {
				t.Fatalf("entry %d is sent damaged", e.GetIndex())
			}
		}
	}
	l.sent = nil
	i := slices.IndexFunc(l.asks, func(f *Fetch) bool { return f.Damage != nil })
	if i < 0 || l.asks[i].Lo != 5 || l.asks[i].Damage.Raft != 5 {
		t.Fatalf("the damaged entry is not asked for: %+v", l.asks)
	}
	l.step(l.held.fetch(l.asks[i]))
	l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
	if len(l.sent) == 0 || !slices.ContainsFunc(l.sent[0].GetEntries(), func(e *raftpb.Entry) bool { return e.GetIndex() == 5 && Verify(e, "") == nil }) {
		t.Errorf("once it was read it is not sent: %d messages", len(l.sent))
	}
	// If the disk has it damaged, too, the member stops.
	l.core.shelf.repair(&ChecksumError{Raft: 6, When: "now"})
	l.step(Tick{})
	l.held.err = errors.New("on disk, too")
	if _, err := l.core.Step(l.now, l.held.fetch(l.asks[len(l.asks)-1])); !errors.Is(err, l.held.err) {
		t.Errorf("got %v", err)
	}
}

// TestFetchBehindOverwrite: as long as a write that replaces entries is under way, the disk still holds those, and they are not
// fetched: they would be taken for what has replaced them once that is committed.
func TestFetchBehindOverwrite(t *testing.T) {
	s := shelf{fetchBytes: 1 << 20}
	s.overwrite([]*raftpb.Entry{{Index: new(uint64(7))}})
	s.overwrite([]*raftpb.Entry{{Index: new(uint64(9))}})
	s.want(3, 3, 12)
	if len(s.wanted) != 1 || s.wanted[0].Hi != 7 {
		t.Fatalf("fetches %+v while entry 7 is being replaced", s.wanted)
	}
	s.wrote()
	s.want(8, 8, 12)
	if len(s.wanted) != 2 || s.wanted[1].Hi != 9 {
		t.Errorf("fetches %+v while entry 9 is being replaced", s.wanted)
	}
	s.wrote()
	s.want(10, 10, 12)
	if len(s.wanted) != 3 || s.wanted[2].Hi != 12 {
		t.Errorf("fetches %+v when nothing is being replaced", s.wanted)
	}
}
