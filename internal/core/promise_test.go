package core

import (
	"testing"
	"time"
)

func TestPromise(t *testing.T) {
	p := promises{promise: promise{leader: 1, term: 5, stamp: 100, until: 1000}}
	restarted := promises{guard: 1000, promise: promise{leader: 1, term: 8, stamp: 10, until: 900}} // and has heard a heartbeat
	for _, c := range []struct {
		p        promises
		now      int64
		term     uint64
		released int64
		want     bool
	}{
		{p, 999, 6, 0, true},    // an ordinary vote
		{p, 1000, 6, 0, false},  // the promise is over
		{p, 500, 6, 99, true},   // the leader changed its mind after releasing 99
		{p, 500, 6, 100, false}, // released
		{p, 500, 7, 1, false},   // a later leader released it: the promise was void before
		{p, 500, 5, 1000, true}, // a leader of an older term has nothing to release
		{restarted, 500, 9, 1 << 40, true},
		{restarted, 1000, 9, 0, false},
		{promises{}, 0, 1, 0, false},
	} {
		if got := c.p.forbids(time.Duration(c.now), c.term, c.released); got != c.want {
			t.Errorf("%+v.forbids(%d, term %d, released %d) = %v", c.p, c.now, c.term, c.released, got)
		}
	}
}

// TestPromiseOnlyGrows: an old heartbeat takes nothing back.
func TestPromiseOnlyGrows(t *testing.T) {
	var v promises
	v.owe(promise{leader: 1, term: 5, stamp: 100, until: 1000})
	for _, old := range []promise{
		{leader: 1, term: 5, stamp: 100, until: 900},
		{leader: 1, term: 5, stamp: 99, until: 1100},
		{leader: 2, term: 4, stamp: 200, until: 1100},
	} {
		v.owe(old)
		if v.stamp != 100 || v.until != 1000 || v.leader != 1 {
			t.Errorf("%+v made the promise %+v", old, v.promise)
		}
	}
	v.owe(promise{leader: 1, term: 5, stamp: 101, until: 1001})
	v.owe(promise{leader: 2, term: 6, stamp: 1, until: 1002}) // another clock
	if v.leader != 2 || v.stamp != 1 || v.until != 1002 {
		t.Errorf("a new leader's promise: %+v", v.promise)
	}
}
