package core

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func testRoster() Roster {
	r := firstRoster([]Member{{ID: 3, Name: "c"}, {ID: 1, Name: "a"}, {ID: 2, Name: "b"}})
	r.Removed = []Former{{ID: 9, Name: "z"}}
	return r
}

// TestRoster_Changes: what a change makes of the members, and what raft is told of it.
func TestRoster_Changes(t *testing.T) {
	joining := Member{ID: 4, Name: "b", Incarnation: 7, Kind: KindObserver, Joining: true}
	for _, test := range []struct {
		name    string
		before  []MemberChange // all of which must be taken
		change  MemberChange
		want    error
		says    string
		voters  []uint64
		joint   bool
		singles int // changes that raft is told
	}{
		{name: "an observer", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindObserver}}}, voters: []uint64{1, 2, 3}, singles: 1},
		{name: "two observers at once", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindObserver}, {ID: 5, Name: "e", Kind: KindObserver}}},
			voters: []uint64{1, 2, 3}, joint: true, singles: 2},
		{name: "a voter", change: MemberChange{Put: []Member{{ID: 4, Name: "d"}}}, voters: []uint64{1, 2, 3, 4}, joint: true, singles: 1},
		{name: "a voter less", change: MemberChange{Remove: []uint64{2}}, voters: []uint64{1, 3}, joint: true, singles: 1},
		{name: "demoted", change: MemberChange{Put: []Member{{ID: 2, Name: "b", Kind: KindObserver}}}, voters: []uint64{1, 3}, joint: true, singles: 1},
		{name: "an arbiter", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindArbiter}}}, voters: []uint64{1, 2, 3, 4}, joint: true, singles: 1},
		{name: "a voter becomes an arbiter", change: MemberChange{Put: []Member{{ID: 2, Name: "b", Kind: KindArbiter}}}, voters: []uint64{1, 2, 3}},
		{name: "one that is to become an arbiter", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindObserver, Joining: true, Becomes: KindArbiter}}},
			voters: []uint64{1, 2, 3}, singles: 1},
		{name: "an arbiter less", before: []MemberChange{{Put: []Member{{ID: 2, Name: "b", Kind: KindArbiter}}}}, change: MemberChange{Remove: []uint64{2}},
			voters: []uint64{1, 3}, joint: true, singles: 1},
		{name: "an address", change: MemberChange{Put: []Member{{ID: 2, Name: "b", Addr: "b:1"}}}, voters: []uint64{1, 2, 3}},
		{name: "the successor of a directory", change: MemberChange{Put: []Member{joining}}, voters: []uint64{1, 2, 3}, singles: 1},
		{name: "replaced", before: []MemberChange{{Put: []Member{joining}}},
			change: MemberChange{Put: []Member{{ID: 4, Name: "b", Incarnation: 7}}, Remove: []uint64{2}}, voters: []uint64{1, 3, 4}, joint: true, singles: 2},

		{name: "nothing", want: ErrBadChange, says: "nothing is to change"},
		{name: "outdated", change: MemberChange{Base: 99, Remove: []uint64{2}}, want: ErrOutdated},
		{name: "while another is under way", before: []MemberChange{{Remove: []uint64{2}}}, change: MemberChange{Remove: []uint64{3}}, want: ErrChanging},
		{name: "an id again", change: MemberChange{Put: []Member{{ID: 9, Name: "z", Kind: KindObserver}}}, want: ErrBadChange, says: "not used again"},
		{name: "a stranger leaves", change: MemberChange{Remove: []uint64{8}}, want: ErrBadChange, says: "no member has id"},
		{name: "a name twice", change: MemberChange{Put: []Member{{ID: 4, Name: "b"}}}, want: ErrBadChange, says: "two members"},
		{name: "an observer with a voter's name", change: MemberChange{Put: []Member{{ID: 4, Name: "b", Kind: KindObserver}}}, want: ErrBadChange, says: "without taking its place"},
		{name: "another name", change: MemberChange{Put: []Member{{ID: 2, Name: "x"}}}, want: ErrBadChange, says: "cannot become"},
		{name: "another directory", before: []MemberChange{{Put: []Member{joining}}},
			change: MemberChange{Put: []Member{{ID: 4, Name: "b", Incarnation: 8}}, Remove: []uint64{2}}, want: ErrBadChange, says: "another directory"},
		{name: "nobody left", change: MemberChange{Remove: []uint64{1, 2, 3}}, want: ErrBadChange, says: "nobody would be left"},
		{name: "arbiters alone", change: MemberChange{Remove: []uint64{1, 2}, Put: []Member{{ID: 3, Name: "c", Kind: KindArbiter}}}, want: ErrBadChange, says: "but for arbiters"},
		{name: "to become an observer", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindObserver, Joining: true, Becomes: KindObserver}}}, want: ErrBadChange, says: "not well formed"},
		{name: "to become what it is", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindObserver, Becomes: KindArbiter}}}, want: ErrBadChange, says: "not well formed"},
		{name: "no name", change: MemberChange{Put: []Member{{ID: 4}}}, want: ErrBadChange, says: "not well formed"},
		{name: "a voter that joins", change: MemberChange{Put: []Member{{ID: 4, Name: "d", Joining: true}}}, want: ErrBadChange, says: "not well formed"},
		{name: "a long name", change: MemberChange{Put: []Member{{ID: 4, Name: strings.Repeat("d", 256), Kind: KindObserver}}}, want: ErrBadChange, says: "longer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, index := testRoster(), uint64(10)
			for _, c := range test.before {
				c.Base = r.Version
				var err error
				if r, err = r.Apply(index, c); err != nil {
					t.Fatal(err)
				}
				index++
			}
			if test.change.Base == 0 {
				test.change.Base = r.Version
			}
			next, err := r.Apply(index, test.change)
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v, want %v that says %q", err, test.want, test.says)
			}
			if err != nil {
				if next.Version != r.Version || len(next.Members) != len(r.Members) {
					t.Errorf("refused, and still %+v", next)
				}
				return
			}
			cc := r.confChange(&next)
			if next.Version != index || !slices.Equal(next.Voters(), test.voters) || next.Joint() != test.joint || len(cc.GetChanges()) != test.singles {
				t.Errorf("got %+v, and raft is told %v", next, cc)
			}
			if left := next.leave(); left.Joint() || !slices.Equal(left.Voters(), test.voters) {
				t.Errorf("after both halves have agreed: %+v", left)
			}
			for _, id := range test.change.Remove {
				if _, ok := next.Find(id); ok || !next.Gone(id) {
					t.Errorf("%d is still there, or forgotten", id)
				}
			}
		})
	}
}

// TestRoster_AsRaftSeesIt: the configuration that raft comes to is the one that the roster stands for, after each change.
func TestRoster_AsRaftSeesIt(t *testing.T) {
	l := newLagging(t)
	c := l.core
	step := func(change MemberChange) {
		t.Helper()
		change.Base = c.pos.Roster.Version
		cc := &raftpb.ConfChangeV2{}
		next, err := c.pos.Roster.Apply(c.pos.Raft+1, change)
		if err != nil {
			t.Fatal(err)
		}
		if own := c.pos.Roster.confChange(&next); own != nil {
			cc = own
		}
		cc.Context = encodeMsgpack(nil, change)
		data, err := proto.Marshal(cc)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{data, nil} { // and the end of a joint configuration
			if data == nil && !c.pos.Roster.Joint() {
				continue
			}
			e := &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Index: new(c.pos.Raft + 1), Term: new(uint64(3)), Data: data}
			moved, err := c.pos.Next(e)
			if err == nil && moved.Refused == nil {
				err = c.reconfigured(e, moved)
			}
			if err != nil || moved.Refused != nil || !moved.Reconfigured {
				t.Fatalf("%+v: %v", moved, err)
			}
		}
	}
	step(MemberChange{Put: []Member{{ID: 4, Name: "d", Kind: KindObserver}}})
	step(MemberChange{Put: []Member{{ID: 4, Name: "d"}}})
	step(MemberChange{Put: []Member{{ID: 3, Name: "c", Kind: KindObserver}}})
	step(MemberChange{Put: []Member{{ID: 5, Name: "b", Incarnation: 1, Kind: KindObserver, Joining: true}}})
	step(MemberChange{Put: []Member{{ID: 5, Name: "b", Incarnation: 1}}, Remove: []uint64{2}})
	step(MemberChange{Remove: []uint64{3}})
	if got := c.members.voters.all(); !slices.Equal(got, []uint64{1, 4, 5}) {
		t.Errorf("voters: %v", got)
	}
}

// The kind of a member is a word wherever people read it, and can be read again.
func TestKindText(t *testing.T) {
	for k := KindVoter; k <= KindArbiter; k++ {
		text, err := k.MarshalText()
		var read Kind
		if err2 := read.UnmarshalText(text); err != nil || err2 != nil || read != k {
			t.Errorf("%v becomes %q, %v and %v, %v", k, text, err, read, err2)
		}
	}
	if err := new(Kind).UnmarshalText([]byte("boss")); err == nil {
		t.Error("any word is a kind")
	}
}
