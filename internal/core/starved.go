package core

import (
	"time"
)

// A member that does not get to run hears too late what was said in time: it would take a leader for dead whose
// heartbeats lie in its sockets, and hold leases that are nearly over when it learns of them. It notices by its own
// timers. Each time that the core is woken later than it wanted, the lateness is added to a debt, which a quarter of the
// time that passes pays off. A member whose debt is high says so ([View], and in its echoes), waits longer before it
// campaigns, and does not take a role up again at once that it
// has just lost for it.
//
// A process that was stopped, or whose machine was, does not get to run either, for once and for long. That says nothing about what comes then, so the first such
// pause in a while is not owed; nor is what was not answered meanwhile (stall.go).

const (
	starvedPart  = 4 // of the time, one part of this many, may be lateness
	severalLates = 3
	lateFrom     = 4  // of a heartbeat, one part of this many: less is no debt to speak of
	maxDebt      = 2  // election timeouts
	firstHold    = 2  // election timeouts for which a role that was lost is not taken up again
	maxHolds     = 6  // doublings of that
	forgetHold   = 64 // election timeouts without a loss after which it is the first again
	pauseAgain   = 10 // election timeouts after a pause in which the next one is owed
	pausePart    = 4  // of an election timeout, one part of this many is a pause, if that is two heartbeats
)

// largeRest is how many election timeouts a large batch may be felt.
const largeRest = 4

// A starvation is what a core knows of how it gets to run.
type starvation struct {
	timing
	wakeAt time.Duration // when it wants to be woken, 0: not yet
	paidAt time.Duration
	debt   time.Duration
	lates  int           // how often it was woken late while there was a debt
	latest time.Duration // the greatest lateness since it was told
	paused time.Duration // when the last pause was over, 0: there was none
	told   bool          // it was starved, and has not caught up since
	// largeTill is until when its own large records may be what makes it late: another would have them next.
	largeTill time.Duration
	holdTill  time.Duration // before which it reports no lease
	lostAt    time.Duration // when it last lost one
	losses    int           // so far, without a long time between two
}

// awake takes note of being woken, and asks for the next time: in a heartbeat, and where it was woken in time and nothing is under way, when that
// is soon enough.
func (s *starvation) awake(now time.Duration, busy bool, calm time.Duration) {
	s.debt = max(0, s.debt-(now-s.paidAt)/starvedPart)
	s.paidAt = now
	if s.wakeAt != 0 && now < s.wakeAt {
		return
	}
	if s.wakeAt != 0 {
		s.owe(now - s.wakeAt)
	}
	s.wakeAt = now + s.heartbeat
	if !busy && !s.owes() {
		s.wakeAt = calm
	}
	switch {
	case !s.told && s.starved():
		s.told = true
	case s.told && s.debt < s.election/8:
		s.told, s.latest, s.holdTill = false, 0, 0
	}
}

// busy takes note that something is under way again: as long as it is, this member is woken each heartbeat, and a pause is as long as it was. One that seemed shorter
// would leave the rest to the disk.
func (s *starvation) busy(now time.Duration) {
	s.wakeAt = min(s.wakeAt, now+s.heartbeat)
}

// owes reports whether there is a debt to speak of: it was woken late lately.
func (s *starvation) owes() bool { return s.debt >= s.heartbeat/lateFrom }

// along lets the core be woken when something is to be done at a time, instead of a little earlier or later.
func (s *starvation) along(now, at time.Duration) {
	if now < s.wakeAt && at-now >= s.heartbeat/2 {
		s.wakeAt = at
	}
}

// owe adds a lateness to the debt.
func (s *starvation) owe(late time.Duration) {
	if s.debt == 0 {
		s.lates = 0
	}
	if late >= s.heartbeat/2 {
		s.lates++
	}
	s.debt = min(s.debt+late, maxDebt*s.election)
	s.latest = max(s.latest, late)
}

// resume takes note of a pause that is over, before anything else does, and returns how long it was, 0 if there was none.
func (s *starvation) resume(now time.Duration) (length time.Duration) {
	length = now - s.wakeAt
	if s.wakeAt == 0 || length < max(2*s.heartbeat, s.election/pausePart) {
		return 0
	}
	if s.paused != 0 && s.wakeAt-s.paused < pauseAgain*s.election {
		s.owe(length)
	}
	s.wakeAt, s.paused = now, now
	return length
}

// starved reports whether this member has not got to run for a good part of the last time.
func (s *starvation) starved() bool {
	return s.debt >= s.election/2 && s.lates >= severalLates
}

// wait is how much longer than others this member waits before it campaigns.
func (s *starvation) wait() time.Duration {
	if s.starved() {
		return s.debt
	}
	return 0
}

// large takes note that this member has a large record in hand, which may be what makes it late for a while.
func (s *starvation) large(now time.Duration) { s.largeTill = now + largeRest*s.election }

// pressed reports whether another would do better at this moment.
func (s *starvation) pressed(now time.Duration) bool { return s.starved() && now >= s.largeTill }

// holds reports whether no lease is to be reported yet, since it would be lost at once.
func (s *starvation) holds(now time.Duration) bool { return now < s.holdTill }

// lapsed takes note of a role that has ended with its lease. For a while none is reported, since the next would be lost as soon.
func (s *starvation) lapsed(now time.Duration) {
	if !s.told {
		return
	}
	if now-s.lostAt > forgetHold*s.election {
		s.losses = 0
	}
	s.lostAt = now
	s.holdTill = now + firstHold*s.election<<min(s.losses, maxHolds)
	s.losses++
}
