package core

import (
	"time"
)

// A follower that has taken a heartbeat echoes its stamp, and with it promises to help nobody else become
// leader for a while, on its own clock: for its own election timeout, whatever the leader's is. The echo says
// how long that is, so that the leader (lease.go) counts on nothing that was not promised.
//
// Invariant: what a voter owes only grows. A heartbeat that comes late or twice makes a promise neither
// older nor shorter.
//
// Invariant: a promise outlives the process. What a crashed voter promised is unknown when it comes
// back, so it begins with a guard: for as long as the longest promise that may have been given, it helps
// nobody, whatever it hears meanwhile. How long that is, is durable before the first is given ([Guard]).
// A heartbeat that it hears says nothing of the promises that it has forgotten, since it may be an old one.
//
// A leader that hands over releases the promises: TimeoutNow, and the forced votes that follow it,
// carry the last stamp for which the leader has given up the lease. A voter that has promised a later
// stamp since, because the leader changed its mind, refuses them, however late they arrive.

// A promise is what a voter owes to a leader.
type promise struct {
	leader, term uint64
	stamp        int64
	until        time.Duration // on the voter's own clock
	firm         bool          // crash evidence against the leader does not void it
}

// promises are all that a member owes to others, on its own clock.
type promises struct {
	promise               // to the last leader
	guard   time.Duration // until when the promises of an earlier process may last; never released
	forced  release       // that came with TimeoutNow
}

// A release is up to which stamp a leader has released its voters, in the term that it led in.
type release struct {
	term  uint64
	stamp int64
}

// owe makes a promise.
func (v *promises) owe(p promise) {
	if p.term < v.term || p.term == v.term && p.stamp <= v.stamp {
		return // it is owed already, and for longer
	}
	v.promise = p
}

// guarded reports whether the promises of an earlier process may last.
func (v *promises) guarded(now time.Duration) bool { return now < v.guard }

// countsEvidence reports whether crash evidence against a member counts: it is owed something, and does not deny it. Of one that
// it has heard no heartbeat of, a member does not know.
func (v *promises) countsEvidence(id uint64) bool {
	return v.leader == id && !v.firm
}

// forgive voids what is owed to the last leader.
func (v *promises) forgive() { v.promise.until = 0 }

// forbids reports whether it would break a promise to help an election in a term at this moment. released
// is the stamp up to which the leader of the term before has released its voters, 0 if it has not.
func (v *promises) forbids(now time.Duration, term uint64, released int64) bool {
	switch {
	case now < v.guard:
		return true
	case now >= v.until:
		return false
	case released == 0:
		return true
	}
	// A leader of term-1 existed, so the lease of any earlier term had ended before.
	return !(v.term+1 < term || v.term+1 == term && v.stamp <= released)
}

// free is when nothing is owed any more to whoever is owed to now.
func (v *promises) free() time.Duration { return max(v.guard, v.until) }

// Guard works out for how long a member that starts must keep what earlier processes of it may have promised.
// kept is what its directory says of that, 0 if nothing; the member's own promises last for length. What is to
// be kept from now on must be durable before the member takes part; once the guard is over, it is enough to
// keep length.
func Guard(kept, length time.Duration) (guard, keep time.Duration) {
	guard = max(kept, length)
	return guard, guard
}
