package core

// This file keeps why a member campaigns, so that it can say, once it leads, how the time of the leader before it is known to have
// ended. A leadership is named by leader and term: what is known of one says nothing of a later one of the same member.

// An Ending is how the time of a leader is known to have ended.
type Ending uint8

const (
	EndUnknown  Ending = iota // there was none before, or nothing is known of it
	EndSilent                 // the promises of a majority to it had run out, by their clocks
	EndGone                   // its process was gone: crash evidence
	EndTransfer               // it has handed leadership on, having given up its lease
)

// A Reign is a leadership.
type Reign struct{ Leader, Term uint64 }

// A Succession is what is known of the leadership before one.
type Succession struct {
	Reign
	Ended Ending
}

// succession is the part of a member that keeps this.
type succession struct {
	last    Reign      // that this member knew of
	gone    Reign      // the last of which there was crash evidence
	present Succession // of the last campaign
	settled uint64     // the last term in which this member led and everything before was applied here
	opening bool       // the start of its epoch was appended, and is not handed out yet
}

// saw takes note of who leads.
func (s *succession) saw(r Reign) {
	if r.Leader != 0 {
		s.last = r
	}
}

// campaign takes note of a campaign for want of a leader.
func (s *succession) campaign() {
	s.present = Succession{s.last, EndSilent}
	switch s.last {
	case Reign{}:
		s.present.Ended = EndUnknown
	case s.gone:
		s.present.Ended = EndGone
	}
}

// transferred takes note of a campaign that the leader asks for.
func (s *succession) transferred(by Reign) { s.present = Succession{by, EndTransfer} }

func (e Ending) String() string { return [...]string{"unknown", "silent", "gone", "transfer"}[e] }
