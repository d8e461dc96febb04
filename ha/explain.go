package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// This file says, from the events of all members, what has happened and why.

// An Explanation is what the events of the members of a cluster say together.
type Explanation struct {
	// Events are those of all members, in one line of time: each member's in their order, and those of several by their clocks.
	Events []Event
	// Failovers are the changes of the role, oldest first; the first epoch is one, from nobody.
	Failovers []Failover
	// Now says who is Active at the end of the events, or why nobody is.
	Now string
}

// A Failover is one change of the role.
type Failover struct {
	From, To string // "" From: there was no Active before
	Epoch    uint64 // of To
	// Cause says in one word why From's role has ended: one of the causes of [EventEnded] or, where the member that took
	// over or an obstacle of From's says more than From itself does, an [Ending] or an [ObstacleKind].
	Cause string
	// Began is when From's role had ended, as far as is known, Ended when To was Active.
	Began, Ended time.Time
	Phases       Phases
	// Cost is what the appends show: Silence as To has measured it, the rest as From has said it.
	Cost Summary
	// Text says it all in words.
	Text string
}

// Explain reads the events in the directories of members, of as many of a cluster as can be had, and says what has happened and why.
// It writes nothing; the members may run. A directory without events is an error that matches [fs.ErrNotExist].
func Explain(dirs ...string) (Explanation, error) {
	var events []Event
	for _, dir := range dirs {
		more, err := readEvents(dir)
		if err != nil {
			return Explanation{}, fmt.Errorf("baton: explain: %w", err)
		}
		events = append(events, more...)
	}
	return explain(events), nil
}

// explain is Explain of what has been read.
func explain(events []Event) Explanation {
	lineUp(events)
	x := Explanation{Events: events}
	var from *Event // the last EventActive
	for i := range events {
		if e := &events[i]; e.Kind == EventActive && (from == nil || e.Epoch > from.Epoch) {
			from = x.heardOf(from, e)
			x.Failovers = append(x.Failovers, x.failover(from, e))
			from = e
		}
	}
	x.Now = x.now(from)
	return x
}

// heardOf returns the Active before one. Where it is a member of which there are no events, others have recorded its epoch.
func (x *Explanation) heardOf(from, to *Event) *Event {
	for i := range x.Events {
		e := &x.Events[i]
		if e.Kind == EventEpoch && e.Epoch < to.Epoch && (from == nil || e.Epoch > from.Epoch) && !slices.Contains(x.members(), e.Peer) {
			from = &Event{Kind: EventActive, Member: e.Peer, Epoch: e.Epoch, Term: e.Term, Time: e.Time}
		}
	}
	return from
}

// failover explains one change, from the one Active to the next.
func (x *Explanation) failover(from, to *Event) Failover {
	f := Failover{To: to.Member, Epoch: to.Epoch, Ended: to.Time}
	if to.Phases != nil {
		f.Phases = *to.Phases
	}
	var elected *Event
	for i := range x.Events {
		if e := &x.Events[i]; e.Kind == EventElected && e.Member == to.Member && e.Run == to.Run && e.Term == to.Term {
			elected = e
		}
	}
	if from == nil {
		f.Began, f.Cause = to.Time, "first"
		f.Text = fmt.Sprintf("%s became the first Active, in epoch %d", f.To, f.Epoch)
		return f
	}
	f.From = from.Member
	why := ""
	if end := x.find(EventEnded, from.Member, from.Epoch); end != nil {
		f.Began, f.Cause, why = end.Time, end.Cause, end.Text
	}
	switch own := f.Cause; {
	case own == CauseLease || own == CauseDeposed:
		// It knows only that it was not heard, or that another led; what was in its way then says why, if something was.
		if o := x.standing(from.Member, f.Began); o != nil {
			f.Cause, why = o.Cause, why+"; "+o.Text
		}
	case own == "" && elected != nil && elected.Peer == from.Member:
		f.Began, f.Cause, why = elected.Time.Add(-f.Phases.Detect), elected.Cause, from.Member+" has left no word of the end; "+elected.Text
	case own == "":
		f.Began, f.Cause, why = to.Time, string(EndedUnknown), from.Member+" has left no word of the end"
		if x.opened(from) {
			f.Cause, why = string(EndedGone), why+", and its process was started anew"
		}
	}
	if f.Began.After(f.Ended) && elected != nil { // it did not run, and has seen it late
		f.Began = elected.Time.Add(-f.Phases.Detect)
	}
	if end := x.find(EventSettled, from.Member, from.Epoch); end != nil && end.Summary != nil {
		f.Cost = *end.Summary
	}
	if served := x.find(EventServing, to.Member, to.Epoch); served != nil && served.Summary != nil {
		own := served.Summary
		f.Cost.First, f.Cost.Silence = own.First, own.Silence
		if !own.Last.IsZero() {
			f.Cost.Last = own.Last
		}
	}
	p := f.Phases
	advice := p.faster()
	if elected != nil && elected.Cause == string(EndedHandedOver) {
		advice = x.handed(from, p)
	}
	if took := p.words(time.Millisecond); took != "" {
		advice = strings.ToUpper(took[:1]) + took[1:] + ". " + advice
	}
	f.Text = fmt.Sprintf("from %s to %s (epoch %d) in %v: %s. %s%s", f.From, f.To, f.Epoch, f.Ended.Sub(f.Began).Round(time.Millisecond), why, advice, f.Cost.words())
	return f
}

// words says what a change has cost, as far as that is known.
func (s Summary) words() string {
	text := ""
	if s.Silence > 0 {
		text += fmt.Sprintf(" Nobody acknowledged an append for %v.", s.Silence.Round(time.Millisecond))
	}
	if s.Refused > 0 || s.Unknown > 0 {
		text += " A" + s.toll()[1:] + "."
	}
	return text
}

// faster says what would have been needed to be faster.
func (p Phases) faster() string {
	switch longest := max(p.Detect, p.Fence, p.Epoch, p.Stand); {
	case longest < 50*time.Millisecond:
		return "Nothing of this took long."
	case longest == p.Detect:
		return "Most of it was waiting for a sign of life: a shorter ElectionTimeout, if the network and the disks allow it."
	case longest == p.Fence:
		return "Most of it was OnFence."
	case longest == p.Epoch:
		return "Most of it was catching up with what was committed: a faster Apply, or members that lag less."
	}
	return "Most of it was waiting for OnStandby to return, or for a majority to answer."
}

// handed is faster where leadership was handed on: nobody has waited for a sign of life then, but perhaps for OnActive to return.
func (x *Explanation) handed(from *Event, p Phases) string {
	p.Detect = 0
	end, returned := x.find(EventEnded, from.Member, from.Epoch), x.find(EventReturned, from.Member, from.Epoch)
	if end != nil && returned != nil {
		if drain := returned.Time.Sub(end.Time); drain > max(50*time.Millisecond, p.Fence, p.Epoch, p.Stand) {
			return fmt.Sprintf("Most of it was waiting for OnActive to return, %v.", drain.Round(time.Millisecond))
		}
	}
	return p.faster()
}

// find returns the last event of a kind about a member's epoch.
func (x *Explanation) find(kind EventKind, member string, epoch uint64) (found *Event) {
	for i := range x.Events {
		if e := &x.Events[i]; e.Kind == kind && e.Member == member && e.Epoch == epoch {
			found = e
		}
	}
	return found
}

// telling are the obstacles that explain why a member was not heard.
var telling = []ObstacleKind{ObstacleDiskStalled, ObstacleApplyStalled, ObstacleLoop, ObstacleStarved}

// standing returns the obstacle of a member that explains best why it was not heard at a time: one that stood then, or
// was found within a moment.
func (x *Explanation) standing(member string, at time.Time) *Event {
	for _, kind := range telling {
		var began *Event
		for i := range x.Events {
			e := &x.Events[i]
			switch {
			case e.Member != member || e.Cause != string(kind):
			case e.Kind == EventObstacle && e.Time.Before(at.Add(time.Second)):
				began = e
			case e.Kind == EventObstacleOver && e.Time.Before(at):
				began = nil
			}
		}
		if began != nil {
			return began
		}
	}
	return nil
}

// opened reports whether a member was opened anew since an event of its.
func (x *Explanation) opened(since *Event) bool {
	return slices.ContainsFunc(x.Events, func(e Event) bool { return e.Member == since.Member && e.Run > since.Run })
}

// succeeded reports whether another member has led since an event of the Active's.
func (x *Explanation) succeeded(last *Event) bool {
	return slices.ContainsFunc(x.Events, func(e Event) bool {
		leads := e.Kind == EventElected && e.Member != last.Member || e.Kind == EventLeader && e.Peer != "" && e.Peer != last.Member
		return leads && e.Term > last.Term
	})
}

// now says who is Active at the end, or why nobody is.
func (x *Explanation) now(last *Event) string {
	if last != nil && x.find(EventEnded, last.Member, last.Epoch) == nil && !x.opened(last) && !x.succeeded(last) {
		return fmt.Sprintf("%s is Active in epoch %d, as far as it has said", last.Member, last.Epoch)
	}
	var why []string
	for _, member := range x.members() {
		state, stands := "", map[string]string{}
		for _, e := range x.Events {
			if e.Member != member {
				continue
			}
			switch e.Kind {
			case EventOpened:
				state, stands = "it runs and knows of no leader", map[string]string{}
			case EventElected:
				state = "it leads"
			case EventLeader:
				state = e.Text
			case EventStopped:
				state = e.Text
			case EventObstacle:
				stands[e.Cause] = e.Text
			case EventObstacleOver:
				delete(stands, e.Cause)
			case EventProblem:
				if e.Cause == problemLeader {
					stands[e.Cause] = e.Text
				}
			case EventProblemOver:
				delete(stands, e.Cause)
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(stands)) {
			state += "; " + stands[kind]
		}
		why = append(why, member+": "+state)
	}
	return "nobody is Active. " + strings.Join(why, ". ")
}

// members returns the names of all that have said something, in order.
func (x *Explanation) members() (names []string) {
	for _, e := range x.Events {
		names = append(names, e.Member)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// String is the line of time, then a paragraph for each failover, and how it is now.
func (x Explanation) String() string {
	var b strings.Builder
	for _, e := range x.Events {
		fmt.Fprintln(&b, e)
	}
	for _, f := range x.Failovers {
		fmt.Fprintf(&b, "\n%s %s\n", f.Ended.Format("15:04:05.000"), f.Text)
	}
	fmt.Fprintf(&b, "\n%s\n", x.Now)
	return b.String()
}
