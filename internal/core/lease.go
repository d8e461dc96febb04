package core

import (
	"math"
	"time"
)

// A leader stamps each round of heartbeats with the time on its own clock. Each echo of stamp s promises that
// its voter helps nobody else become leader before s plus the length of the promise, a length on the voter's
// clock, which may be faster by the share by which clocks may drift. Every quorum contains a voter of each other
// one, so nobody else can be elected before the earliest of the promises of any quorum ends; the leader takes
// the quorum of which that is latest. It subtracts one heartbeat interval, because timers fire late (Gray and
// Cheriton's leases; raft's own check of its quorum is no lease, since a voter forgets its leader as soon as it
// hears of a higher term).
//
// A leader that does not hear a quorum any more is over, and whoever still hears it should know: else they wait until it
// gives up, and only then begin to wait for an election timeout. So a heartbeat says whether the last rounds were answered in
// the time that this usually takes (deaf). If they were not, it is no sign of life, and its echo no promise.
//
// No timing value of the leader's own configuration is part of this but the drift, and of that the larger of
// both is taken. So the members' values may differ.

// A lease is what a leader holds, what it rests on, and the clock of the heartbeats by which it is renewed.
type lease struct {
	timing
	stamp    int64 // of the last stamped round
	rests    bool  // the lease may rest on it
	released int64 // nothing rests on stamps up to this one
	jumped   int64 // nor on echoes of stamps up to this one that are still to come
	echoes   echoes
	until    time.Duration // 0: none

	answered time.Duration // the last stamp that a quorum has echoed, or the beginning of this leadership
	asked    time.Duration // when the first round after that was sent; 0: none was
	takes    time.Duration // until a quorum has echoed a stamp, on average

	beatAt       time.Duration // when the next round of heartbeats is due
	beatenAt     time.Duration // when the last one was
	resting      bool          // until then it is longer than usual (rest.go)
	transferring time.Duration // until when a transfer may be under way, for which the lease was given up; 0: none
}

// An echo is what a voter has said last, and the last promise of it.
type echo struct {
	stamp   int64         // that it has answered
	vowed   int64         // the stamp on which its promise rests
	length  time.Duration // of the promise, drift taken off
	guarded bool          // it cannot help in a hand-over yet
	starved bool          // it does not get to run in time
}

// echoes are what those have said who have said anything: so few that it is faster to look at them all than to have a map.
type echoes []echoOf

type echoOf struct {
	id uint64
	echo
}

// of returns what one of them has said, the zero value if nothing.
func (s echoes) of(id uint64) (e echo) {
	for i := range s {
		if s[i].id == id {
			return s[i].echo
		}
	}
	return e
}

// with returns them with what one of them has said now.
func (s echoes) with(id uint64, e echo) echoes {
	for i := range s {
		if s[i].id == id {
			s[i].echo = e
			return s
		}
	}
	return append(s, echoOf{id, e})
}

// heard takes an echo of a voter.
func (l *lease) heard(id uint64, e echo) {
	was := l.echoes.of(id)
	if e.stamp > l.stamp || e.stamp <= was.stamp {
		return // not of this leadership, or late
	}
	if e.vowed <= l.jumped {
		e.vowed, e.length = was.vowed, was.length
	}
	l.echoes = l.echoes.with(id, e)
}

// refused takes note that a voter cannot take over now, whatever it has echoed last: that may have been an earlier process of it.
func (l *lease) refused(id uint64) {
	e := l.echoes.of(id)
	e.guarded = true
	l.echoes = l.echoes.with(id, e)
}

// answer takes note of what a quorum has echoed, and reports whether the leader hears it again that was deaf.
func (l *lease) answer(now time.Duration, voters quorum) (again bool) {
	stamp := voters.agreed(func(id uint64) time.Duration { return time.Duration(l.echoes.of(id).stamp) })
	if stamp <= l.answered || l.transferring != 0 {
		return false // while leadership is being handed on, nobody is asked
	}
	again = !l.rests
	if l.takes == 0 {
		l.takes = now - stamp
	}
	smooth(&l.takes, now-stamp)
	l.answered, l.asked = stamp, 0
	return again
}

// deaf reports whether no quorum has answered this leader, who did ask, for longer than it takes.
func (l *lease) deaf(now time.Duration) bool {
	return l.asked != 0 && now-l.asked > l.heartbeat+l.heartbeat/2+2*l.takes
}

// forget ends a leadership, or what one rested on that ends. What was released stays so.
func (l *lease) forget() {
	l.stamp, l.jumped, l.echoes, l.transferring, l.answered, l.asked = 0, 0, nil, 0, 0, 0
}

// giveUp gives up the lease: nothing rests on what was promised up to now. There is something to tell, so it is no time to rest.
func (l *lease) giveUp() {
	l.released = max(l.released, l.stamp, 1)
	l.resting, l.beatAt = false, min(l.beatAt, l.beatenAt+l.heartbeat)
}

// shorten has every promise end earlier, as if it had been asked for so much earlier. It is not known whether one that is on its way
// was asked for before the clock has missed something, so none is taken; the next round comes soon.
func (l *lease) shorten(by time.Duration) {
	for i := range l.echoes {
		if e := &l.echoes[i]; e.vowed != 0 {
			e.vowed = max(0, e.vowed-int64(by))
		}
	}
	l.jumped = l.stamp
}

// transfer gives up the lease for a transfer. If raft has not handed leadership on within an election timeout, it gives up.
func (l *lease) transfer(now time.Duration) {
	l.giveUp()
	l.transferring = now + l.election + 2*l.heartbeat
	l.answered, l.asked = 0, 0
}

// stamps reports whether heartbeats carry stamps.
func (l *lease) stamps() bool { return l.transferring == 0 && l.stamp > 0 }

// round begins a round of heartbeats that the lease may rest on, and reports whether it does: then the leader promises to itself
// as a voter does.
func (l *lease) round(now time.Duration, id uint64) (rests bool) {
	if l.answered == 0 {
		l.answered = now - 1 // this round can be answered, too
	}
	v := vow{stamp: int64(now), length: l.election}
	if rests = !l.deaf(now); !rests {
		v.length = 0
	}
	l.stamp, l.rests = v.stamp, rests
	if l.asked == 0 {
		l.asked = now
	}
	l.heard(id, l.echoOf(v))
	return rests
}

// alive reports whether a voter has echoed a stamp that is not older than a while.
func (l *lease) alive(id uint64, now, within time.Duration) bool {
	return time.Duration(l.echoes.of(id).stamp) > now-within
}

// longest is how long those voters wait for a leader who have promised anything, and this member.
func (l *lease) longest(voters quorum) time.Duration {
	longest := l.election
	for _, e := range l.echoes {
		if voters.has(e.id) {
			longest = max(longest, e.length)
		}
	}
	return longest
}

// end works out until when the lease lasts, 0 if there is none.
func (l *lease) end(voters quorum) time.Duration {
	if l.transferring != 0 {
		return 0
	}
	end := l.supported(voters)
	if end == 0 {
		return 0
	}
	return end - l.interval(voters, true)
}

// supported is until when no quorum of the voters can elect anybody else, 0 if that is not known.
func (l *lease) supported(voters quorum) time.Duration {
	return voters.agreed(func(id uint64) time.Duration {
		if e := l.echoes.of(id); e.vowed > l.released {
			return time.Duration(e.vowed) + e.length
		}
		return 0
	})
}

// interval is that in which a leader shows that it is alive: its own, or a shorter one where a promise would
// otherwise be over before it is renewed, since that voter's election timeout is shorter than the leader's. supported:
// a quorum has promised.
func (l *lease) interval(voters quorum, supported bool) time.Duration {
	heartbeat := l.heartbeat
	if !supported {
		heartbeat = min(heartbeat, firstBeat)
	}
	return l.within(heartbeat, voters)
}

// within is an interval, or a shorter one that fits into the promises.
func (l *lease) within(interval time.Duration, voters quorum) time.Duration {
	for _, e := range l.echoes {
		if voters.has(e.id) {
			interval = min(interval, max(e.length/beatsPerPromise, minBeat))
		}
	}
	return interval
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
func (l *lease) echoOf(v vow) echo {
	if !(v.drift >= 0 && v.drift < 1) || v.length < 0 || v.length > math.MaxInt64/2 {
		return echo{} // nothing that can be counted on
	}
	e := echo{stamp: v.stamp, guarded: v.guarded, starved: v.starved}
	if v.length > 0 {
		e.vowed, e.length = v.stamp, afterDrift(v.length, max(v.drift, l.drift))
	}
	return e
}
