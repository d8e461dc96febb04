package ha

import (
	"cmp"
	"slices"
	"time"
)

// ExplainEvents is [Explain] of events that one has already, as those of [Node.Events] of one member or of several, in any order.
// An event that is there twice counts once.
func ExplainEvents(events []Event) Explanation {
	type id struct {
		member string
		run    int64
		seq    uint64
	}
	seen := make(map[id]bool, len(events))
	return explain(slices.DeleteFunc(slices.Clone(events), func(e Event) bool {
		i := id{e.Member, e.Run, e.Seq}
		twice := seen[i]
		seen[i] = true
		return twice
	}))
}

// lineUp puts events into one line of time: each member's in their order, and those of several by their clocks. An event of a member
// whose clock was set back stands where the one before it does.
func lineUp(events []Event) {
	slices.SortFunc(events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Member, b.Member), cmp.Compare(a.Run, b.Run), cmp.Compare(a.Seq, b.Seq))
	})
	type placed struct {
		at time.Time
		Event
	}
	line := make([]placed, len(events))
	for i, e := range events {
		line[i] = placed{e.Time, e}
		if i > 0 && line[i-1].Member == e.Member && line[i-1].at.After(e.Time) {
			line[i].at = line[i-1].at
		}
	}
	slices.SortStableFunc(line, func(a, b placed) int { return a.at.Compare(b.at) })
	for i, p := range line {
		events[i] = p.Event
	}
}
