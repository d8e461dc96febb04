package ha

import (
	"fmt"
	"slices"
	"testing"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// TestRoster_WhoIsReached: the list says where a member is, before the configuration; who votes until a change has ended is talked
// to; of two of one name it is the new one.
func TestRoster_WhoIsReached(t *testing.T) {
	hints := []Member{{Name: "a", Addr: "a:1"}, {Name: "b", Addr: "b:1"}, {Name: "z", Addr: "z:1"}}
	a, b := log.Member{ID: 1, Name: "a"}, log.Member{ID: 2, Name: "b"}
	moved, next := log.Member{ID: 2, Name: "b", Addr: "b:2"}, log.Member{ID: 9, Name: "b", Addr: "b:9", Kind: log.KindObserver, Joining: true}
	c := log.Member{ID: 3, Name: "c", Addr: "c:3"}
	for _, x := range []struct {
		members, outgoing []log.Member
		self              transport.Peer
		peers, all        string
	}{
		{[]log.Member{a, b}, nil, transport.Peer{ID: 1, Name: "a"}, "b=2@b:1", "a@a:1 b@b:1"},
		{[]log.Member{a, moved}, nil, transport.Peer{ID: 1, Name: "a"}, "b=2@b:2", "a@a:1 b@b:2"},
		{[]log.Member{a, c}, []log.Member{a, b}, transport.Peer{ID: 1, Name: "a"}, "c=3@c:3 b=2@b:1", "a@a:1 c@c:3"},
		{[]log.Member{a, b, next}, nil, transport.Peer{ID: 1, Name: "a"}, "b=9@b:9", "a@a:1 b@b:9"},
		{[]log.Member{a, b, next}, nil, transport.Peer{ID: 2, Name: "b"}, "a=1@a:1", "a@a:1 b@b:9"},
		{[]log.Member{a, next}, []log.Member{a, b}, transport.Peer{ID: 9, Name: "b"}, "a=1@a:1", "a@a:1 b@b:9"},
		{nil, nil, transport.Peer{ID: 1, Name: "a"}, "", ""},
	} {
		r := &roster{Roster: log.Roster{Version: 7, Members: x.members, Outgoing: x.outgoing}, hints: hints}
		var peers, all []string
		for _, p := range r.peers(x.self) {
			peers = append(peers, fmt.Sprintf("%s=%d@%s", p.Name, p.ID, p.Addr))
		}
		for _, m := range r.all() {
			all = append(all, m.Name+"@"+r.addrOf(m.Name))
		}
		if got := fmt.Sprint(peers); got != "["+x.peers+"]" {
			t.Errorf("%s of %v, %v talks to %s, want %s", x.self.Name, x.members, x.outgoing, got, x.peers)
		}
		if got := fmt.Sprint(all); got != "["+x.all+"]" {
			t.Errorf("%v: all are %s, want %s", x.members, got, x.all)
		}
		for _, m := range slices.Concat(x.members, x.outgoing) {
			if r.nameOf(m.ID) != m.Name || !r.has(m.Name) {
				t.Errorf("%v, %v: %x is %q", x.members, x.outgoing, m.ID, r.nameOf(m.ID))
			}
		}
	}
}
