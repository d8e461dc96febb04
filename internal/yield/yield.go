// Package yield finds out how fast bulk work may go beside live writes, so that those do not suffer: as fast as the receiver's
// disk, the network and the processors allow, whatever they are. It has no clock and no lock; its values belong to one goroutine at a time.
//
// It is what TCP Vegas does with a window (Brakmo and Peterson, 1995), with the time that live writes take in the place of the round trip: the rate grows a
// little at a time, and falls by more as soon as they take notably longer than they do without the bulk work.
package yield

import "time"

// A Strain knows whether live writes take longer than they do undisturbed. The zero value knows nothing.
type Strain struct {
	Recent time.Duration // what a write takes, on average of the last few dozen
	Calm   time.Duration // the same, of more of them, where there is no bulk work; 0: not known

	busy int // since one was last alone
}

const (
	recentPart = 32 // of a new figure goes into an average, one part of so many
	calmPart   = 64
	notable    = 4   // it is notable to take longer by one part of so many
	longest    = 4   // times what they take without bulk work, that one counts: something else has held it up
	soonAlone  = 256 // writes within which one is alone, of whoever leaves them alone
)

// Took takes what a write took. alone: there was no bulk work while it was under way, or as little as there can be. Where none was alone for long, what
// is faster than without is what it takes without, too: something else has ended that held it up. Averages go up and down, so that makes of what is usual the
// least that was ever seen; who can leave a write alone now and then should.
func (s *Strain) Took(took time.Duration, alone bool) {
	if s.Recent == 0 {
		s.Recent = took
	}
	s.Recent += (took - s.Recent) / recentPart
	if s.busy++; alone {
		s.busy = 0
	}
	switch {
	case s.Calm == 0 && alone:
		s.Calm = s.Recent
	case alone:
		s.Calm += (min(took, longest*s.Calm) - s.Calm) / calmPart
	case s.busy > soonAlone && s.Calm > s.Recent:
		s.Calm += (s.Recent - s.Calm) / calmPart
	}
}

// Strained reports whether they take notably longer.
func (s *Strain) Strained() bool { return s.Calm > 0 && s.Recent > s.Calm+s.Calm/notable }

// A Rate is how fast bulk work goes. It begins slowly, and the slowest is not nothing: writes may take longer for another reason, and the work must
// come to its end. What they take at that rate is taken for what they take without it, so that a load that has
// changed meanwhile does not hold it up.
type Rate struct {
	rate   int64 // bytes a second
	writes int   // since it was changed
}

const (
	// Slowest is the slowest rate, in bytes a second.
	Slowest = 8 << 20

	fastest   = 1 << 30 // more than anything goes
	everWrite = 32      // after so many writes the rate is changed: not before it can be seen what the last change has done
	growPart  = 8       // by one part of so many it grows
	fallPart  = 4       // and by one of so many it falls
)

// Begin begins anew.
func (r *Rate) Begin() { *r = Rate{rate: Slowest} }

// Slow reports whether it is the slowest.
func (r *Rate) Slow() bool { return r.rate <= Slowest }

// BytesPerSecond returns it.
func (r *Rate) BytesPerSecond() int64 { return max(r.rate, Slowest) }

// Wrote takes note of a live write, which s was told of before.
func (r *Rate) Wrote(s *Strain) {
	if r.writes++; r.writes < everWrite {
		return
	}
	r.writes = 0
	if s.Strained() {
		r.rate = max(r.rate-r.rate/fallPart, Slowest)
	} else {
		r.rate = min(r.rate+r.rate/growPart, fastest)
	}
}
