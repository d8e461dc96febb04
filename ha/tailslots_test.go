package ha

import (
	"fmt"
	"testing"
)

// TestTailSlots: as long as there is room everybody is given a place; then who has few takes them from who has many, hosts first and then sessions, until they are
// shared as evenly as they can be, and nobody takes one back and forth.
func TestTailSlots(t *testing.T) {
	s := tailSlots{most: 12}
	come := func(host string, session int) (lost string, ok bool) {
		o, err := s.place(&tail{host: host, session: fmt.Sprint(host, session)})
		if o != nil {
			lost = o.session
		}
		return lost, err == nil
	}
	for i := range 12 {
		if lost, ok := come("greedy", i/4); !ok || lost != "" {
			t.Fatalf("place %d is refused, or taken from %q, although there is room", i, lost)
		}
	}
	for _, c := range []struct {
		host    string
		session int
		lost    string // "-": refused
	}{
		{"greedy", 0, "-"},       // 4, 4 and 4 of its sessions
		{"greedy", 3, "greedy2"}, // another one of its sessions: 4, 4, 3, 1
		{"modest", 0, "greedy1"},
		{"modest", 0, "greedy0"},
		{"third", 0, "greedy2"},  // 3, 3, 2, 1 against 2 and 1
		{"third", 0, "greedy1"},  // 3, 2, 2, 1
		{"third", 0, "greedy0"},  // 2, 2, 2, 1 against 2 and 3
		{"modest", 1, "greedy2"}, // 2, 2, 1, 1, then 2 + 1 and 3
		{"modest", 1, "greedy1"}, // 2, 1, 1, 1 against 4 and 3
		{"modest", 2, "modest1"}, // 2 and 2
		{"third", 0, "greedy0"},
		{"greedy", 0, "-"},
		{"greedy", 5, "-"},
		{"modest", 0, "-"},
	} {
		lost, ok := come(c.host, c.session)
		if !ok {
			lost = "-"
		}
		if lost != c.lost {
			t.Errorf("%s%d takes a place from %q, want %q", c.host, c.session, lost, c.lost)
		}
		if s.size() != 12 {
			t.Fatalf("%d places are taken", s.size())
		}
	}
	first := s.open[0]
	s.give(first)
	s.give(first)
	if s.size() != 11 {
		t.Errorf("a place that was given back twice: %d are taken", s.size())
	}
	if lost, ok := come("greedy", 0); !ok || lost != "" {
		t.Error("a place that was given back is not given")
	}
}
