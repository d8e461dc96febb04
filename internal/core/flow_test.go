package core

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/yield"
)

// catchUp lets member 3 of a lagging cluster catch up, which answers a message after so long for each MiB, and returns how long that took and
// the most messages that were on their way. live: batches are committed meanwhile, of so many bytes a second. strained: they take longer for it.
func catchUp(t *testing.T, answers, trip time.Duration, live, strained bool, appended int) (took time.Duration, most int) {
	l := newLagging(t)
	type answer struct {
		index uint64
		at    time.Duration
	}
	var due []answer
	begun, busy := l.now, l.now
	l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
	have, got := uint64(1), uint64(1)
	reject := true
	for rounds := 0; have < laggingEntries-1; rounds++ {
		if rounds > 10_000 {
			t.Fatalf("it has got the entries up to %d of %d", have, laggingEntries)
		}
		if live {
			l.core.pace.committedBytes = uint64(l.now.Seconds() * float64(appended))
			l.core.pace.committedAt, l.core.pace.commitTime, l.core.pace.strain = l.now, time.Millisecond, yield.Strain{Recent: time.Millisecond, Calm: time.Millisecond}
			if strained {
				l.core.pace.strain.Recent *= 2
			}
		}
		sent := l.sent
		l.sent = nil
		for _, m := range sent {
			if reject {
				reject = false
				l.step(Receive{Message: &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(uint64(3)),
					Index: m.Index, Reject: new(true), RejectHint: new(uint64(1)), LogTerm: new(uint64(1))}, At: l.now})
				begun = l.now
				continue
			}
			if n := len(m.GetEntries()); n > 0 && m.GetIndex() <= got {
				got = m.GetEntries()[n-1].GetIndex()
				busy = max(busy, l.now+trip/2) + answers*time.Duration(n*laggingSize)>>20
				due = append(due, answer{m.GetEntries()[n-1].GetIndex(), busy + trip/2})
			}
		}
		if f := l.core.flows[3]; f != nil {
			f.heard(trip)
		}
		most = max(most, len(due))
		switch {
		case len(l.asks) > 0:
			l.answer()
		case len(due) > 0 && due[0].at <= l.core.Deadline():
			l.now = due[0].at
			have, due = max(have, due[0].index), due[1:]
			l.from(3, raftpb.MsgAppResp, have, 3)
		default:
			l.now = max(l.now, l.core.Deadline())
			l.step(Tick{})
			l.from(2, raftpb.MsgHeartbeatResp, 0, 3)
			l.from(3, raftpb.MsgHeartbeatResp, 0, 3)
		}
	}
	return l.now - begun, most
}

// TestG8_CatchUpLeavesRoom: a member that catches up leaves a part of the time to others as long as anybody appends, and has all of it
// otherwise; and a long way is filled in either case.
func TestG8_CatchUpLeavesRoom(t *testing.T) {
	t.Parallel()
	const answers = 4 * time.Millisecond
	pieces := time.Duration(laggingEntries * laggingSize >> 20)
	// What is to be applied and what is in memory comes beside.
	for _, test := range []struct {
		name          string
		trip          time.Duration
		live, strain  bool
		appended      int
		least, longer time.Duration
		most          int
	}{
		{"nobody appends", 0, false, false, 0, pieces * answers, pieces*answers*11/10 + 20*time.Millisecond, 4 + idleAhead},
		{"somebody appends, and does not suffer", 0, true, false, 0, pieces * answers, pieces * answers * 15 / 10, 4},
		{"somebody appends, and suffers", 0, true, true, 0, pieces * answers * 20 / 10, pieces * answers * 24 / 10, 4},
		{"somebody appends half as much as it gets, and suffers", 0, true, true, 128 << 20, pieces * answers, pieces * answers * 165 / 100, 4 + idleAhead},
		{"somebody suffers, far away", 20 * time.Millisecond, true, true, 0, pieces * answers * 22 / 10, pieces * answers * 35 / 10, 8},
		{"nobody appends, far away", 20 * time.Millisecond, false, false, 0, pieces * answers, pieces * answers * 2, 18},
	} {
		took, most := catchUp(t, answers, test.trip, test.live, test.strain, test.appended)
		if took < test.least || took > test.longer {
			t.Errorf("%s: it took %v, want between %v and %v", test.name, took, test.least, test.longer)
		}
		if most > test.most {
			t.Errorf("%s: %d messages were on their way, want at most %d", test.name, most, test.most)
		}
		t.Logf("%s: %v, %d on their way", test.name, took, most)
	}
}

// TestRestUntilAppendsAreFastEnough: the pauses become longer as long as batches take more than a quarter longer, and then shorter.
func TestRestUntilAppendsAreFastEnough(t *testing.T) {
	t.Parallel()
	f := &flow{takes: 10 * time.Millisecond, rest: restMost / 2}
	for _, test := range []struct {
		recent time.Duration // of a millisecond that they take undisturbed
		longer bool
	}{{1240 * time.Microsecond, false}, {1260 * time.Microsecond, true}} {
		before, strain := f.rest, yield.Strain{Recent: test.recent, Calm: time.Millisecond}
		f.pieces = []piece{{hi: 2, at: time.Second}}
		f.answered(time.Second+10*time.Millisecond, 1, strain.Strained(), time.Minute)
		if longer := f.rest > before; longer != test.longer || f.rest == before {
			t.Errorf("batches take %v: the pause becomes %d parts long after %d", test.recent, f.rest, before)
		}
	}
}

// TestNoRestWhereNothingCommits: a member that the majority waits for catches up as fast as it can.
func TestNoRestWhereNothingCommits(t *testing.T) {
	t.Parallel()
	f := &flow{takes: 10 * time.Millisecond, lastOut: time.Second, rest: restUnit / 2}
	for fresh, want := range map[float64]time.Duration{0: 15 * time.Millisecond, 0.125: 13125 * time.Microsecond, 1: 10 * time.Millisecond, 3: 10 * time.Millisecond} {
		if got := f.room(time.Second, true, fresh) - time.Second; got != want {
			t.Errorf("beside appends of %v of a piece: after %v, want %v", fresh, got, want)
		}
	}
	if got := f.room(time.Second, false, 0); got != time.Second {
		t.Errorf("where nobody appends: %v, want at once", got)
	}
}

// TestLostPieces: what is never answered does not stop the flow for ever.
func TestLostPieces(t *testing.T) {
	t.Parallel()
	f := &flow{takes: time.Millisecond, pieces: []piece{{hi: 10, at: time.Second}, {hi: 20, at: time.Second}}}
	f.answered(time.Second+400*time.Millisecond, 5, false, 500*time.Millisecond)
	if at := f.room(time.Second+400*time.Millisecond, true, 0); at < time.Minute {
		t.Errorf("the next may leave at %v", at)
	}
	now := time.Second + 501*time.Millisecond
	f.answered(now, 5, false, 500*time.Millisecond)
	if at := f.room(now, true, 0); at > now {
		t.Errorf("the next may leave at %v", at)
	}
}
