package ha

import (
	"maps"
	"testing"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// TestWhereabouts: what is said is not believed, but asked at; a member is where the list has it, if it answers there or says so (the planted bug
// "copy-sighted" takes it to be elsewhere then, as a copy of its directory may).
func TestWhereabouts(t *testing.T) {
	n := &Node{relisted: make(chan struct{}, 1)}
	n.listed.Store(&roster{Roster: log.Roster{Version: 3, Members: []log.Member{{ID: 1, Name: "a", Addr: "h:1"}, {ID: 2, Name: "b", Addr: "h:2"}}}})
	hello := func(id uint64, addr string) transport.Hello {
		return transport.Hello{ID: id, List: []transport.Peer{{ID: 1, Name: "a", Addr: "h:9"}, {ID: id, Name: "x", Addr: addr}}}
	}
	for _, step := range []struct {
		what        string
		do          func()
		said, found map[uint64]string
		news        bool
	}{
		{"a stranger says where it is", func() { n.overhear(hello(7, "h:7")) }, nil, nil, false},
		{"b says that it is nowhere", func() { n.overhear(hello(2, "0.0.0.0:0")) }, nil, nil, false},
		{"b says that it is where the list has it", func() { n.overhear(hello(2, "h:2")) }, nil, nil, false},
		{"b says that it is elsewhere", func() { n.overhear(hello(2, "h:3")) }, map[uint64]string{2: "h:3"}, nil, false},
		{"a stranger answers", func() { n.sight(map[uint64][]string{7: {"h:7"}}) }, map[uint64]string{2: "h:3"}, nil, false},
		{"b answers at both", func() { n.sight(map[uint64][]string{2: {"h:3", "h:2"}}) }, map[uint64]string{2: "h:3"}, nil, false},
		{"b answers elsewhere", func() { n.sight(map[uint64][]string{2: {"h:3"}}) }, map[uint64]string{2: "h:3"}, map[uint64]string{2: "h:3"}, true},
		{"b answers there again, and at a third place", func() { n.sight(map[uint64][]string{2: {"h:4", "h:3"}}) }, map[uint64]string{2: "h:3"}, map[uint64]string{2: "h:3"}, false},
		{"b does not answer", func() { n.sight(nil) }, map[uint64]string{2: "h:3"}, map[uint64]string{2: "h:3"}, false},
		{"b answers at another place", func() { n.sight(map[uint64][]string{2: {"h:4"}}) }, map[uint64]string{2: "h:3"}, map[uint64]string{2: "h:4"}, true},
		{"b says that it is back", func() { n.overhear(hello(2, "h:2")) }, nil, nil, true},
		{"b answers elsewhere", func() { n.sight(map[uint64][]string{2: {"h:3"}}) }, nil, map[uint64]string{2: "h:3"}, true},
		{"b answers where the list has it", func() { n.sight(map[uint64][]string{2: {"h:2"}}) }, nil, nil, true},
	} {
		step.do()
		found := make(map[uint64]string)
		for id, f := range n.elsewhere.found {
			found[id] = f.at
		}
		if !maps.Equal(n.elsewhere.said, step.said) || !maps.Equal(found, step.found) {
			t.Errorf("%s: said %v, found %v; want %v, %v", step.what, n.elsewhere.said, found, step.said, step.found)
		}
		if news := len(n.relisted) > 0; news != step.news {
			t.Errorf("%s: the transport is told: %v, want %v", step.what, news, step.news)
		} else if news {
			<-n.relisted
		}
	}
}
