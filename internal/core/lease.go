package core

import (
	"math"
	"time"

	"github.com/baton-ha/baton/internal/mutant"
)

// A leader stamps each round of heartbeats with the time on its own clock. Each echo of stamp s promises that
// its voter helps nobody else become leader before s plus the length of the promise, a length on the voter's
// clock, which may be faster by the share by which clocks may drift. Every quorum contains a voter of each other
// one, so nobody else can be elected before the earliest of the promises of any quorum ends; the leader takes
// the quorum of which that is latest. It subtracts one heartbeat interval, because timers fire late (Gray and
// Cheriton's leases; raft's own check of its quorum is no lease, since a voter forgets its leader as soon as it
// hears of a higher term).
//
// No timing value of the leader's own configuration is part of this but the drift, and of that the larger of
// both is taken. So the members' values may differ.

// A lease is what a leader holds, and what it rests on.
type lease struct {
	stamp    int64 // of the last stamped round
	released int64 // nothing rests on stamps up to this one
	echoes   map[uint64]echo
	until    time.Duration // 0: none
}

// An echo is the last promise of a voter.
type echo struct {
	stamp   int64
	length  time.Duration // drift taken off
	guarded bool          // it cannot help in a hand-over yet
	starved bool          // it does not get to run in time
}

// heard takes an echo of a voter.
func (l *lease) heard(id uint64, e echo) {
	if e.stamp > l.stamp || e.stamp <= l.echoes[id].stamp {
		return // not of this leadership, or late
	}
	if l.echoes == nil {
		l.echoes = make(map[uint64]echo, 8)
	}
	l.echoes[id] = e
}

// forget ends a leadership. What was released stays so.
func (l *lease) forget() { l.stamp, l.echoes = 0, nil }

// supported is until when no quorum of the voters can elect anybody else, 0 if that is not known.
func (l *lease) supported(voters quorum) time.Duration {
	return voters.agreed(func(id uint64) time.Duration {
		if e := l.echoes[id]; e.stamp > l.released {
			return time.Duration(e.stamp) + e.length
		}
		return 0
	})
}

// pace is the interval in which a leader shows that it is alive: its own, or a shorter one where a promise would
// otherwise be over before it is renewed, since that voter's election timeout is shorter than the leader's. supported:
// a quorum has promised.
func (l *lease) pace(heartbeat time.Duration, supported bool) time.Duration {
	if !supported {
		heartbeat = min(heartbeat, firstBeat)
	}
	for _, e := range l.echoes {
		heartbeat = min(heartbeat, max(e.length/beatsPerPromise, minBeat))
	}
	return heartbeat
}

// beatsPerPromise is how many heartbeats fit into a promise at least.
const beatsPerPromise = 5

// firstBeat is the longest interval while a leader does not know yet how long its voters wait.
const firstBeat = 50 * time.Millisecond

const minBeat = time.Millisecond

// afterDrift is how long a promise lasts at least, on the clock of a leader.
func afterDrift(length time.Duration, drift float64) time.Duration {
	return length - time.Duration(float64(length)*drift)
}

// LeaseLength is how long a lease lasts from the stamp it rests on where all members have the same values.
func LeaseLength(heartbeat, electionTimeout time.Duration, drift float64) time.Duration {
	return afterDrift(electionTimeout, drift) - heartbeat
}

// echoOf makes an echo of what a voter has said.
func (c *Core) echoOf(v vow) echo {
	if mutant.On(mutant.LeaseFromOwn) {
		v.length = c.cfg.ElectionTimeout
	}
	if !(v.drift >= 0 && v.drift < 1) || v.length < 0 || v.length > math.MaxInt64/2 {
		return echo{} // nothing that can be counted on
	}
	return echo{stamp: v.stamp, length: afterDrift(v.length, max(v.drift, c.cfg.MaxClockDrift)), guarded: v.guarded, starved: v.starved}
}
