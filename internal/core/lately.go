package core

import "time"

// A member that follows from far away always lacks what is on its way to it: at thousands of entries a second many, however well it keeps up. So
// whether one has caught up is seen by what the leader had a moment ago: who has that is behind by less than an election timeout (Ongaro's thesis, 4.2.1).

// lately is how far this leader's log was some time ago, the latest first.
type lately [3]come

// come is how far a log has come at a moment.
type come struct {
	at   time.Duration // 0: not known
	last uint64
}

// note takes note of the last entry, each quarter of an election timeout.
func (l *lately) note(now, election time.Duration, last uint64) {
	if now-l[0].at >= election/4 {
		l[2], l[1], l[0] = l[1], l[0], come{now, last}
	}
}

// lacks is how many of the entries that have been here for half an election timeout, and no longer than one, somebody does not have who has those up to match, and
// lacks behind of those that are here now. If it is not known what was here then, it is all of these.
func (l *lately) lacks(now, election time.Duration, match, behind uint64) uint64 {
	if old := l[2]; old.at != 0 && now-old.at <= election {
		return old.last - min(match, old.last)
	}
	return behind
}
