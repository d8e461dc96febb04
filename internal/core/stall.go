package core

import (
	"errors"
	"time"
)

// A member whose disk or state machine has stopped answering must not lead, and cannot be told from outside from one that is
// well. So it finds out itself. What counts is the time since the last progress, not the age of the oldest write: a long
// queue on a busy disk is no standstill.

// A stall is what a core knows of how its disk and its state machine get on.
type stall struct {
	timing
	full      bool          // the disk takes no records
	writes    []*Write      // not yet durable, in order
	room      [8]*Write     // for those, as long as they are few
	slowest   peak          // of the waits for the disk
	writtenAt time.Duration // when a write was last answered, or the first of these was handed out
	applies   int           // not yet answered
	appliedAt time.Duration // when an apply was last answered, or the first of these was handed out
}

// idle reports whether nothing is being written.
func (s *stall) idle() bool { return len(s.writes) == 0 }

// busy reports whether the disk or the state machine has something to do.
func (s *stall) busy() bool { return !s.idle() || s.applies > 0 }

// write takes note of a write that is handed out.
func (s *stall) write(now time.Duration, w *Write) {
	if s.idle() {
		s.writtenAt, s.writes = now, s.room[:0]
	}
	s.writes = append(s.writes, w)
}

// writing takes note that the disk has got on with a write that is not done.
func (s *stall) writing(now time.Duration) { s.writtenAt = now }

// written takes note of a write that is durable.
func (s *stall) written(now time.Duration, w *Write) error {
	if s.idle() || s.writes[0] != w {
		return errors.New("baton: writes answered out of order") // a driver's bug
	}
	s.writes[0], s.writes = nil, s.writes[1:]
	now = max(now, s.writtenAt) // a pause of the process may have moved that
	s.slowest.note(now, now-s.writtenAt, slowestFor*s.election)
	s.writtenAt = now
	return nil
}

// resume takes note that nobody could see an answer for so long, since the process did not run.
func (s *stall) resume(length time.Duration) {
	s.writtenAt += length
	s.appliedAt += length
}

// apply takes note of an apply that is handed out.
func (s *stall) apply(now time.Duration) {
	if s.applies++; s.applies == 1 {
		s.appliedAt = now
	}
}

// applied takes note of one that is done.
func (s *stall) applied(now time.Duration) {
	s.applies--
	s.appliedAt = now
}

// stalled reports whether the disk or the state machine has not answered for so long that this member
// must not lead. A disk may take its time over what is large, and a state machine over what is a lot of records.
func (s *stall) stalled(now time.Duration) bool {
	return s.unwritten(now) || s.unapplied(now)
}

// unapplied reports whether the state machine has not answered for too long.
func (s *stall) unapplied(now time.Duration) bool {
	return s.applies > 0 && now-s.appliedAt > applyPatience*s.election
}

// unwritten reports whether the disk has not answered for too long: for half an election timeout and what large
// writes take, or for twice as long as lately, when it did answer. Several writes may be one, of about MaxSync bytes
// and one write more.
func (s *stall) unwritten(now time.Duration) bool {
	if s.idle() {
		return false
	}
	bytes := 0
	for _, w := range s.writes {
		if bytes += w.Bytes; bytes >= MaxSync {
			break
		}
	}
	patience := max(s.election/2, min(2*s.slowest.at(now), slowestWait*s.election))
	return now-s.writtenAt > patience+timeFor(bytes, slowestDisk)
}

// MaxSync bounds the bytes that are synced at a time, so that an answer is never far away.
const MaxSync = 1 << 20

const (
	slowestFor  = 10 // election timeouts for which a slow answer of the disk is remembered
	slowestWait = 2  // election timeouts that are not waited beyond because of it
)

// applyPatience is how many election timeouts one apply may take before the member counts as stalled.
const applyPatience = 10

// slowestDisk is the bytes per second of a disk that is not taken for one that has stalled.
const slowestDisk = 16 << 20

// timeFor is how long bytes take at a rate.
func timeFor(bytes, perSecond int) time.Duration {
	return time.Duration(float64(bytes) / float64(perSecond) * float64(time.Second))
}

// A peak is the highest of the values of a while.
type peak struct {
	value time.Duration
	until time.Duration
}

// note takes a value that counts for a while.
func (p *peak) note(now, value, lasts time.Duration) {
	if value >= p.at(now) {
		p.value, p.until = value, now+lasts
	}
}

// at is the peak at a time.
func (p *peak) at(now time.Duration) time.Duration {
	if now >= p.until {
		return 0
	}
	return p.value
}
