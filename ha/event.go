package ha

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"
)

// This file is the recorder: what a member has decided and why, in an operator's words. The last events are kept in memory, and
// in two files of the directory (eventfile.go), where they outlive the process. What is recorded is in chronicle.go.

// An Event is something that a member has decided or has found out.
type Event struct {
	// Time is by the member's clock on the wall. Run and Seq order the events of a member, also when that clock was set: Run is
	// when its process was opened, in Unix nanoseconds, and Seq counts from 1 in each.
	Time   time.Time `json:"time"`
	Member string    `json:"member"`
	Run    int64     `json:"run"`
	Seq    uint64    `json:"seq"`
	Kind   EventKind `json:"kind"`
	// Epoch, Term and Peer are what it is about, zero where that does not apply.
	Epoch uint64 `json:"epoch,omitempty"`
	Term  uint64 `json:"term,omitempty"`
	Peer  string `json:"peer,omitempty"`
	// Cause says in one word, for programs, why, or what kind of obstacle or problem it is.
	Cause string `json:"cause,omitempty"`
	// Text says it all in words.
	Text string `json:"text"`
	// Phases are, of EventActive only, what the time went by with.
	Phases *Phases `json:"phases,omitempty"`
	// Summary is, of EventServing and EventSettled only, what the change of roles has cost, as far as this member knows.
	Summary *Summary `json:"summary,omitempty"`
}

// An EventKind says in one word, for programs, what has happened.
type EventKind string

// The kinds of events.
const (
	EventOpened       EventKind = "opened"        // the process has begun
	EventStopped      EventKind = "stopped"       // it was closed, or has failed: Cause "closed" or "failed"
	EventLeader       EventKind = "leader"        // another member leads, or nobody: Peer, Term
	EventElected      EventKind = "elected"       // this member leads: Cause is an Ending, of Peer's time as leader
	EventFencing      EventKind = "fencing"       // OnFence is called: Peer, Epoch, Cause an Ending
	EventFenced       EventKind = "fenced"        // it has returned: Cause "" or "failed"
	EventEpoch        EventKind = "epoch"         // an epoch has started and everything before it is applied: Epoch, Peer its holder
	EventActive       EventKind = "active"        // OnActive is called: Epoch, Phases
	EventEnded        EventKind = "ended"         // its ctx has ended: Epoch; Cause is one of the causes below
	EventReturned     EventKind = "returned"      // OnActive has returned
	EventServing      EventKind = "serving"       // the first append of Epoch is acknowledged: Peer was Active before; Summary
	EventSettled      EventKind = "settled"       // the fate of all appends of Epoch, which has ended here, is known: Summary
	EventTransfer     EventKind = "transfer"      // leadership is handed to Peer
	EventFailed       EventKind = "failed"        // a callback has failed
	EventObstacle     EventKind = "obstacle"      // an [Obstacle] stands: Cause is its kind
	EventObstacleOver EventKind = "obstacle-over" // it stands no more
	EventProblem      EventKind = "problem"       // a [Problem] is there: Cause is its kind
	EventProblemOver  EventKind = "problem-over"  // it is no more
	EventMembers      EventKind = "members"       // the list of the members is another: Cause is one of its causes, Peer the member
)

// The causes of the end of a role. With [CauseLease] and [CauseDeposed] the member that takes over may know more.
const (
	CauseAsked     = "asked"          // Become was called, here or on the member that wanted the role
	CauseClosed    = "closed"         // the node was closed
	CauseAway      = "stay-away"      // StayAway was called
	CauseMembers   = "members"        // a change of the members takes its place or its vote: RemoveMember, Demote
	CausePreempted = "preempted"      // a member of higher priority was there (Config.Preempt)
	CauseStarved   = "starved"        // it did not get to run in time
	CauseDiskFull  = "disk-full"      // its disk is nearly full, and another member's is not
	CauseUnhealthy = "unhealthy"      // Config.Health
	CauseOnActive  = "onactive-error" // OnActive has failed
	CauseLease     = "lease-expired"  // no majority has answered in time
	CausePaused    = "paused"         // the lease expired while the process did not run: it was stopped, or the whole machine
	CauseDeposed   = "deposed"        // another member leads
	CauseStopped   = "stopped"        // the member has failed
)

// endCauses are all of them.
var endCauses = [...]string{CauseAsked, CauseClosed, CauseAway, CauseMembers, CausePreempted, CauseStarved, CauseDiskFull, CauseUnhealthy, CauseOnActive, CauseLease, CausePaused, CauseDeposed, CauseStopped}

// Phases are the parts of the time until a member was Active, one after the other.
type Phases struct {
	Detect time.Duration `json:"detect"` // from the last sign of life of the leader before to the election
	Fence  time.Duration `json:"fence"`  // what OnFence took
	Epoch  time.Duration `json:"epoch"`  // the rest until the epoch was applied: a round, and what had to be caught up
	Stand  time.Duration `json:"stand"`  // from there until OnStandby had returned and there was a lease
}

// words says what took how long, rounded, "" if nothing is known to have.
func (p Phases) words(round time.Duration) string {
	var parts []string
	if took := p.Detect.Round(round); took > 0 {
		parts = append(parts, fmt.Sprintf("elected %v after the leader before was heard last", took))
	}
	for _, part := range []struct {
		took time.Duration
		what string
	}{{p.Fence, "fenced"}, {p.Epoch, "its epoch in force"}, {p.Stand, "OnStandby over and the lease there"}} {
		switch took := part.took.Round(round); {
		case took <= 0:
		case len(parts) == 0:
			parts = append(parts, fmt.Sprintf("%s within %v", part.what, took))
		default:
			parts = append(parts, fmt.Sprintf("%s %v later", part.what, took))
		}
	}
	return strings.Join(parts, ", ")
}

// maxEvents is how many events are kept in memory, and how many may wait to be written.
const maxEvents = 1024

// recorder keeps the last events. Whoever records does not wait. The zero recorder is ready.
type recorder struct {
	member string
	run    int64

	mu      sync.Mutex // guards what follows; held for copying only
	seq     uint64
	last    []Event       // the last maxEvents at most, oldest first
	waiting []Event       // to be written
	dropped uint64        // that were not written, since the disk is too slow
	changed chan struct{} // closed with the next event; nil: nobody waits for it
}

// record adds an event.
func (r *recorder) record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Time, e.Member, e.Run, e.Seq = time.Now().Round(0), r.member, r.run, r.seq
	if len(r.last) >= 2*maxEvents {
		r.last = append(r.last[:0], r.last[maxEvents:]...)
	}
	r.last = append(r.last, e)
	if len(r.waiting) < maxEvents {
		r.waiting = append(r.waiting, e)
	} else {
		r.dropped++
	}
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// after returns the events that are kept and come after one, and what is closed when there are more.
func (r *recorder) after(seq uint64) (events []Event, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.last[max(0, len(r.last)-maxEvents):]
	if n := r.seq - seq; n < uint64(len(kept)) {
		kept = kept[uint64(len(kept))-n:]
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return append(events, kept...), r.changed
}

// Events returns what this member has decided and why since Open, oldest first, the last 1,024 events. Those before are in the
// directory: see [Explain]. It never blocks.
func (n *Node) Events() []Event {
	events, _ := n.events.after(0)
	return events
}

// WatchEvents yields the events that are kept and then each new one, until ctx ends or the node is closed. One that is slower
// than 1,024 events misses some: Seq shows it.
func (n *Node) WatchEvents(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for seq := uint64(0); ; {
			events, more := n.events.after(seq)
			for _, e := range events {
				if seq = e.Seq; !yield(e) {
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-n.closed:
				if events, _ = n.events.after(seq); len(events) == 0 {
					return
				}
			}
		}
	}
}

// String is the event for people, as one line.
func (e Event) String() string {
	return fmt.Sprintf("%s %s: %s", e.Time.Format("15:04:05.000"), e.Member, e.Text)
}
