package core

import (
	"fmt"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// TestView goes through what is seen of a leader and of its followers.
func TestView(t *testing.T) {
	l := newLagging(t)
	c := l.core
	c.lease.beatAt = l.now
	l.step(Tick{}) // a round of stamps
	stamp := time.Duration(c.lease.stamp)
	l.echo(2, vow{stamp: c.lease.stamp, length: time.Second, guarded: true})
	l.echo(3, vow{stamp: c.lease.stamp, length: time.Second, starved: true})
	l.from(3, raftpb.MsgAppResp, laggingEntries-1, c.term)
	last := uint64(laggingEntries) // with the entry of its term
	want := fmt.Sprint([]PeerView{
		{ID: 2, Heard: stamp, Behind: last, Lacks: last, Guarded: true},
		{ID: 3, Heard: stamp, Behind: 1, Lacks: 1, Starved: true},
	})
	v := c.View(l.now)
	if got := fmt.Sprint(v.Peers); got != want {
		t.Errorf("peers %s, want %s", got, want)
	}
	if v.Guard != 0 || v.Late != 0 || v.Pressed || v.DiskSince != 0 || v.ApplySince != 0 {
		t.Errorf("nothing is in the way, and it sees %+v", v)
	}

	c.promises.guard, c.stall.writes, c.stall.writtenAt = l.now+1, []*Write{{}}, l.now-time.Hour
	c.stall.applies, c.stall.appliedAt = 1, l.now-2*time.Hour
	c.starving = starvation{timing: c.starving.timing, told: true, latest: 3, holdTill: 4, debt: time.Hour, lates: severalLates}
	if v := c.View(l.now); v.Guard != l.now+1 || v.DiskSince != l.now-time.Hour || v.ApplySince != l.now-2*time.Hour || v.Late != 3 || v.Hold != 4 || !v.Pressed {
		t.Errorf("%+v", v)
	}
	c.starving.largeTill = l.now + 1
	if v := c.View(l.now + 1); v.Guard != 0 || !v.Pressed {
		t.Errorf("in time: %+v", v)
	}
	if v := c.View(l.now); v.Pressed {
		t.Error("it is pressed by its own large records")
	}
	c.stall.writes = nil
	l.from(2, raftpb.MsgHeartbeat, 0, c.term+1)
	if v := c.View(l.now); v.Peers != nil {
		t.Errorf("a follower sees %v", v.Peers)
	}
}

// echo lets a member answer a heartbeat.
func (l *lagging) echo(id uint64, v vow) {
	l.t.Helper()
	l.step(Receive{Message: &raftpb.Message{
		Type: raftpb.MsgHeartbeatResp.Enum(), From: new(id), To: new(uint64(1)), Term: new(l.core.term), Context: v.encode(),
	}, At: l.now})
}
