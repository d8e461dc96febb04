package core

import (
	"math"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

func TestLeaseSupported(t *testing.T) {
	for _, c := range []struct {
		echoes   map[uint64]echo // stamp and length
		voters   []uint64
		released int64
		want     time.Duration
	}{
		{map[uint64]echo{1: {stamp: 5, length: 10}}, []uint64{1}, 0, 15},
		{map[uint64]echo{1: {stamp: 5, length: 10}}, []uint64{1, 2}, 0, 0},
		{map[uint64]echo{1: {stamp: 5, length: 10}, 2: {stamp: 4, length: 10}}, []uint64{1, 2}, 0, 14},
		{map[uint64]echo{1: {stamp: 5, length: 10}, 2: {stamp: 4, length: 10}}, []uint64{1, 2, 3}, 0, 14},
		{map[uint64]echo{1: {stamp: 5, length: 100}, 2: {stamp: 5, length: 10}, 3: {stamp: 5, length: 11}}, []uint64{1, 2, 3}, 0, 16},
		{map[uint64]echo{1: {stamp: 5, length: 10}, 2: {stamp: 5, length: 80}, 3: {stamp: 5, length: 90}}, []uint64{1, 2, 3}, 0, 85},
		{map[uint64]echo{1: {stamp: 9, length: 10}, 2: {stamp: 5, length: 80}, 3: {stamp: 5, length: 90}}, []uint64{1, 2, 3}, 5, 0},
		{map[uint64]echo{1: {stamp: 5, length: 10}, 9: {stamp: 9, length: 10}}, []uint64{1, 2, 3, 4}, 0, 0}, // 9 does not vote
		{map[uint64]echo{1: {stamp: 5}, 2: {stamp: 4}, 3: {stamp: 2}}, []uint64{1, 2, 3, 4, 5}, 0, 2},
	} {
		l := lease{released: c.released}
		for id, e := range c.echoes {
			e.vowed = e.stamp
			l.echoes = l.echoes.with(id, e)
		}
		if got := l.supported(quorum{c.voters}); got != c.want {
			t.Errorf("%+v released %d: supported until %d, want %d", c.echoes, c.released, got, c.want)
		}
	}
}

// TestLeaseHearsOnlyLaterEchoes: an echo that comes late or again, or that was never asked for, changes nothing.
func TestLeaseHearsOnlyLaterEchoes(t *testing.T) {
	l := lease{stamp: 100}
	l.heard(2, echo{stamp: 90, vowed: 90, length: 10})
	for _, e := range []echo{{stamp: 90, vowed: 90, length: 99}, {stamp: 80, vowed: 80, length: 99}, {stamp: 101, vowed: 101, length: 99}, {}} {
		l.heard(2, e)
		if got := l.echoes.of(2); got.stamp != 90 || got.length != 10 {
			t.Errorf("%+v made it %+v", e, got)
		}
	}
}

// TestEchoWithoutPromise: it says that its voter is there, and neither shortens nor renews what that has promised.
func TestEchoWithoutPromise(t *testing.T) {
	l := lease{stamp: 100}
	l.heard(2, echo{stamp: 90, vowed: 90, length: 10})
	l.heard(2, l.echoOf(vow{stamp: 95}))
	if got := l.echoes.of(2); got != (echo{stamp: 95, vowed: 90, length: 10}) {
		t.Errorf("%+v", got)
	}
	if got := l.supported(quorum{{2}}); got != 100 {
		t.Errorf("supported until %d", got)
	}
}

// TestVow: what a voter promises arrives as it was said, and counts with the larger drift of both.
func TestVow(t *testing.T) {
	c := &lease{timing: timing{drift: 0.1}}
	v := vow{stamp: 7, length: time.Second, drift: 0.2, guarded: true, starved: true}
	m := &raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), Context: v.encode()}
	if got := vowOf(m); got != v {
		t.Errorf("%+v arrives as %+v", v, got)
	}
	wants := v
	wants.wants = 1 << 40
	if got := vowOf(&raftpb.Message{Context: wants.encode()}); got != wants {
		t.Errorf("%+v arrives as %+v", wants, got)
	}
	if e := c.echoOf(v); e.stamp != 7 || e.length != 800*time.Millisecond || !e.guarded || !e.starved {
		t.Errorf("with a drift of 0.2 there: %+v", e)
	}
	v.drift = 0.01
	if e := c.echoOf(v); e.length != 900*time.Millisecond {
		t.Errorf("with a drift of 0.1 here: %+v", e)
	}
	for _, bad := range []vow{
		{stamp: 7, length: -1}, {stamp: 7, length: 1, drift: math.NaN()}, {stamp: 7, length: 1, drift: 1},
		{stamp: 7, length: 1, drift: -1}, {stamp: 7, length: math.MaxInt64},
	} {
		if e := c.echoOf(bad); e != (echo{}) {
			t.Errorf("%+v counts as %+v", bad, e)
		}
	}
	m.Context = m.Context[:stampBytes] // no promise behind the stamp
	if got := vowOf(m); got != (vow{}) {
		t.Errorf("a mere stamp is read as %+v", got)
	}
}
