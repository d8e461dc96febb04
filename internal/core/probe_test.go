package core

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// TestProbe: after every few pieces the next one waits until nothing is on its way, and then for one whole batch.
func TestProbe(t *testing.T) {
	t.Parallel()
	const soon = 2 * time.Millisecond
	var p probe
	now, mine, other := time.Second, new(Batch), new(Batch)
	holds := func(want bool, until time.Duration, underway bool) {
		t.Helper()
		if got, holds := p.hold(now, soon, probeEvery, underway); holds != want || holds && got != until {
			t.Fatalf("at %v: %v, until %v, want %v, until %v", now, holds, got, want, until)
		}
	}
	begin := func() {
		t.Helper()
		holds(false, 0, true)
		p.pieces = probeEvery
		holds(true, now+never, true)
		p.proposed(other)
		if p.committed(other) {
			t.Fatal("a batch was waited for that was proposed while something was on its way")
		}
		holds(true, now+soon, false)
	}

	begin()
	now += soon / 2
	p.proposed(mine)
	p.proposed(other)
	holds(true, now+3*soon/2, false)
	if p.committed(other) {
		t.Error("the second batch was waited for")
	}
	now += soon // it may take longer than it was to be waited for at first
	holds(true, now+soon/2, false)
	if !p.committed(mine) || p.committed(mine) {
		t.Error("the first batch was not waited for, or twice")
	}

	begin()
	now += soon // nothing is proposed
	holds(false, 0, false)

	begin()
	p.proposed(mine)
	now += 2 * soon // nothing is committed
	holds(false, 0, false)
	if p.committed(mine) {
		t.Error("it was waited for too long")
	}
}

// TestProbedBatchesAreCalm: what batches take without old entries on their way is known from those that a probe waits for, and from no others; and
// the next piece leaves as soon as such a batch is committed.
func TestProbedBatchesAreCalm(t *testing.T) {
	t.Parallel()
	const now = time.Hour
	c := new(Core)
	for range 200 {
		c.paced(now, time.Millisecond, false)
	}
	c.flows = map[uint64]*flow{3: {}}
	calm := func() time.Duration { return c.pace.strain.Calm.Round(time.Millisecond / 10) }
	for range 200 {
		c.paced(now, 3*time.Millisecond, false)
	}
	if got := calm(); got != time.Millisecond || !c.pace.strain.Strained() {
		t.Errorf("beside old entries batches take 3 ms, and that is taken for usual: %v", got)
	}
	c.shelf.releaseAt = never
	for range 400 {
		c.paced(now, 2*time.Millisecond, true)
	}
	if got := calm(); got != 2*time.Millisecond || c.shelf.releaseAt != now {
		t.Errorf("those that are probed take 2 ms, and %v is taken for usual; the next piece leaves at %v", got, c.shelf.releaseAt)
	}
}

// TestProbesHoldPiecesBack: while a member catches up beside appends, each probe leaves one whole batch alone.
func TestProbesHoldPiecesBack(t *testing.T) {
	t.Parallel()
	l := newLagging(t)
	c := l.core
	c.flows = map[uint64]*flow{2: {lastOut: l.now, pieces: []piece{{hi: 1 << 40, at: l.now}}}, 3: {lastOut: l.now}}
	c.probe.pieces, c.pace.committedAt = probeEvery, l.now
	if holds, _ := c.probes(l.now, true); holds {
		t.Error("what one member gets waits for what another one has not answered")
	}
	c.pace.commitTime, c.pace.committedAt = time.Millisecond, l.now
	c.flows = map[uint64]*flow{3: {takes: time.Millisecond, lastOut: l.now}}
	c.probe.pieces = probeEvery
	l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
	l.step(Tick{})
	if c.probe.since != l.now {
		t.Fatalf("nothing is on its way, and no probe has begun: %+v", c.probe)
	}
	batch := new(Batch)
	c.probe.proposed(batch)
	l.now += time.Millisecond
	l.step(Tick{})
	if !c.probe.committed(batch) {
		t.Error("the probe was over before the batch was committed")
	}
}
