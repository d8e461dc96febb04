package core

import (
	"slices"
	"testing"
	"time"
)

// TestQuorum: while two configurations are in force it takes a majority of each.
func TestQuorum(t *testing.T) {
	reached := func(id uint64) time.Duration { return time.Duration(id) }
	for _, c := range []struct {
		q    quorum
		want time.Duration
		all  []uint64
	}{
		{quorum{}, 0, nil},
		{quorum{{7}}, 7, []uint64{7}},
		{quorum{{7, 8}}, 7, []uint64{7, 8}},
		{quorum{{1, 2, 3}}, 2, []uint64{1, 2, 3}},
		{quorum{{1, 2, 3, 4}}, 2, []uint64{1, 2, 3, 4}},
		{quorum{{1, 2, 3, 4, 5}}, 3, []uint64{1, 2, 3, 4, 5}},
		{quorum{{1, 2, 3}, {3, 4, 5}}, 2, []uint64{1, 2, 3, 4, 5}},
		{quorum{{3, 4, 5}, {1, 2, 3}}, 2, []uint64{1, 2, 3, 4, 5}},
		{quorum{{4, 5, 6}, {1, 2, 3, 4, 5}}, 3, []uint64{1, 2, 3, 4, 5, 6}},
	} {
		if got := c.q.agreed(reached); got != c.want {
			t.Errorf("%v have reached %d, want %d", c.q, got, c.want)
		}
		if got := c.q.all(); !slices.Equal(got, c.all) {
			t.Errorf("%v are %v", c.q, got)
		}
	}
	voters := quorum{{2, 4, 6}, {4, 6, 8}}
	m := membersWith(Roster{}, voters)
	if got := m.rank(8, 4); got != 2 {
		t.Errorf("8 is at place %d among 2, 6 and 8", got)
	}
	m = membersWith(Roster{
		Members:  []Member{{ID: 4}, {ID: 6, Kind: KindArbiter}, {ID: 8}},
		Outgoing: []Member{{ID: 2, Kind: KindArbiter}, {ID: 4}, {ID: 6, Kind: KindArbiter}},
	}, voters)
	for id, want := range map[uint64]int{8: 0, 2: 1, 6: 2} {
		if got := m.rank(id, 4); got != want {
			t.Errorf("%d is at place %d, want %d, where arbiters are last", id, got, want)
		}
	}
	if got := m.rank(5, 4); got != 0 {
		t.Errorf("5, which has no vote, would be at place %d among 2, 6 and 8", got)
	}
}
