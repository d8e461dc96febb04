package core

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// TestG4_PausedMachine: a pause that the lease's clock has not counted shows on the wall later. The lease that would
// have ended in it is given up, and nothing that was promised before holds it up again.
func TestG4_PausedMachine(t *testing.T) {
	l := newLagging(t)
	c := l.core
	l.step(Tick{})
	echo := func(stamp int64) {
		l.t.Helper()
		ctx := vow{stamp: stamp, length: c.cfg.ElectionTimeout}.encode()
		l.step(Receive{Message: &raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(uint64(2)), To: new(uint64(1)),
			Term: new(c.term), Context: ctx}, At: l.now})
	}
	first := c.lease.stamp
	echo(first)
	if c.lease.until <= l.now {
		t.Fatal("no lease")
	}
	left := c.lease.until - l.now
	l.step(Doubt{By: left - time.Millisecond})
	if got := c.lease.until - l.now; got != time.Millisecond {
		t.Errorf("a lease of which %v may have been missed lasts for %v", left-time.Millisecond, got)
	}
	l.step(Doubt{By: left})
	if c.lease.until != 0 {
		t.Errorf("a lease in doubt lasts for %v", c.lease.until-l.now)
	}
	echo(first)
	if c.lease.until != 0 {
		t.Error("an echo from before the pause is a lease again")
	}
	l.now += c.cfg.Heartbeat
	l.step(Tick{})
	echo(c.lease.stamp)
	if c.lease.until <= l.now {
		t.Error("what is promised after the pause is no lease")
	}
}
