package ha

import (
	"fmt"
	"strings"

	"github.com/baton-ha/baton/log"
)

// This file says how the list of the members has changed.

// The causes of EventMembers.
const (
	CauseAdded    = "added"    // a member is on the list
	CauseRemoved  = "removed"  // a member is not on it any more
	CauseReplaced = "replaced" // a new directory has taken the place of an old one
	CauseKind     = "kind"     // it is another kind of member now
	CauseAddr     = "addr"     // it is reached elsewhere
	CausePriority = "priority" // another priority
)

// tellMembers records what is different in a list from the one before, on the log's loop. What is read back at the start is nothing new, the
// end of a change that took two steps is none, and a member that is removed says that it is.
func (n *Node) tellMembers(before, now *log.Roster) {
	if _, listed := now.Find(n.self.ID); before.Version == 0 || now.Version <= n.story.kept || !listed {
		return
	}
	e := Event{Kind: EventMembers}
	var words []string
	note := func(m log.Member, cause, format string, args ...any) {
		if len(words) == 0 {
			e.Peer, e.Cause = m.Name, cause
		} else if e.Peer != m.Name {
			e.Peer = ""
		}
		words = append(words, m.Name+fmt.Sprintf(format, args...))
	}
	for _, m := range now.Members {
		was, there := before.Find(m.ID)
		switch _, named := before.Named(m.Name); {
		case there:
			if m.Kind != was.Kind {
				note(m, CauseKind, " is %s %v now", article(m.Kind), m.Kind)
			}
			if m.Addr != was.Addr && was.Addr != "" {
				note(m, CauseAddr, " is at %s now", m.Addr)
			}
			if m.Priority != was.Priority {
				note(m, CausePriority, " has the priority %d now", m.Priority)
			}
		case named && m.Joining:
			note(m, CauseReplaced, " at %s is to take the place of what it was, once it has caught up", m.Addr)
		case named:
			note(m, CauseReplaced, " at %s has taken the place of what it was", m.Addr)
		case m.Joining:
			note(m, CauseAdded, " at %s was added, and is to be %s %v once it has caught up", m.Addr, article(m.Becomes), m.Becomes)
		default:
			note(m, CauseAdded, " at %s was added as %s %v", m.Addr, article(m.Kind), m.Kind)
		}
	}
	for _, m := range before.Members {
		if _, there := now.Named(m.Name); !there {
			note(m, CauseRemoved, " was removed")
		}
	}
	if len(words) > 0 {
		e.Text = "the members have changed: " + strings.Join(words, "; ")
		n.event(e)
	}
}

func article(k Kind) string {
	if k == KindVoter {
		return "a"
	}
	return "an"
}
