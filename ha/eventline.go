package ha

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// This file says in the log what is recorded: one line for each thing that happened, in words that say what it means, and none for a step on
// the way that another line follows. Obstacles and problems have lines of their own, which are not said more often than they are
// worth (condition.go).

// event records an event, and says it. It waits for nothing.
func (n *Node) event(e Event) { n.eventOf(e, nil) }

// eventOf is event of an error, which the log has whole, and the event in one line.
func (n *Node) eventOf(e Event, err error) {
	n.events.record(e)
	switch e.Kind {
	case EventEpoch:
		if e.Peer != n.cfg.Name {
			if e.Term >= n.story.lead.Term { // else it is history, which comes back at the start
				n.sayRole(e, false)
			}
			return
		}
	case EventFencing, EventFenced, EventActive, EventServing, EventEnded, EventSettled, EventFailed:
		n.sayComing(time.Now(), e, err)
		return
	}
	n.sayEvent(e, err, 1)
}

// roleElsewhere is what was said last of who else has the role.
type roleElsewhere struct {
	mu    sync.Mutex // guards what follows
	said  said
	epoch Event // the last
	open  bool  // it was not said yet
}

// sayRole says that another member has the role; where that changes all the time, after growing pauses, and of who has it then.
func (n *Node) sayRole(e Event, late bool) {
	r := &n.roleOf
	r.mu.Lock()
	defer r.mu.Unlock()
	if late {
		r.said.timer = false
		if e = r.epoch; !r.open || n.hasEnded() || n.status.Load().Epoch != e.Epoch {
			return
		}
	}
	r.epoch, r.open = e, true
	_, wait := r.said.say(time.Now())
	switch {
	case wait == 0:
		r.open = false
		n.sayEvent(e, nil, 1)
	case !r.said.timer:
		r.said.timer = true
		time.AfterFunc(wait, func() { n.sayRole(Event{}, true) })
	}
}

// sayEvent writes the line of an event that was there so often since it was said last.
func (n *Node) sayEvent(e Event, err error, times int) {
	level, message := n.lineOf(e)
	args := []any{"member", n.cfg.Name}
	if e.Epoch != 0 {
		args = append(args, "epoch", e.Epoch)
	}
	if e.Term != 0 {
		args = append(args, "term", e.Term)
	}
	if e.Peer != "" {
		args = append(args, "peer", e.Peer)
	}
	if e.Cause != "" && e.Kind != EventStopped {
		args = append(args, "cause", e.Cause)
	}
	if times > 1 {
		args = append(args, "times", times)
	}
	if err != nil {
		args = append(args, "err", err)
	} else if _, why, ok := strings.Cut(e.Text, ": "); ok {
		args = append(args, "why", why)
	}
	n.cfg.Logger.Log(context.Background(), level, message, args...)
}

// lineOf is how an event is said.
func (n *Node) lineOf(e Event) (slog.Level, string) {
	switch e.Kind {
	case EventStopped:
		if e.Cause == CauseClosed {
			return slog.LevelInfo, "closed"
		}
		return slog.LevelError, "the member has failed, and takes no part any more"
	case EventLeader:
		return slog.LevelDebug, "another member leads, or nobody" // who has the role then is said, and if nobody leads for long
	case EventElected:
		return slog.LevelDebug, "elected" // why is said once it is active
	case EventFencing:
		return slog.LevelInfo, "OnFence is called to keep out who was active before"
	case EventFenced:
		if e.Cause != "" {
			return slog.LevelDebug, "OnFence has failed" // which was said
		}
		return slog.LevelInfo, "OnFence has succeeded"
	case EventEpoch:
		if e.Peer == n.cfg.Name {
			return slog.LevelDebug, "the epoch has started"
		}
		return slog.LevelInfo, "another member has the role"
	case EventActive:
		return slog.LevelInfo, "active"
	case EventEnded:
		switch e.Cause {
		case CauseAsked, CauseClosed, CauseAway, CausePreempted:
			return slog.LevelInfo, "the role ends"
		case CauseOnActive:
			return slog.LevelDebug, "the role ends" // because of the callback's failure, which was said
		}
		return slog.LevelWarn, "the role ends"
	case EventReturned:
		return slog.LevelDebug, "OnActive has returned"
	case EventServing:
		if e.Summary.Silence == 0 {
			return slog.LevelDebug, "the first append is acknowledged"
		}
		return slog.LevelInfo, "the first append is acknowledged"
	case EventSettled:
		if e.Summary.Refused+e.Summary.Unknown == 0 {
			return slog.LevelDebug, "no append was refused"
		}
		return slog.LevelWarn, "appends were refused, or their fate is unknown, since the role has ended"
	case EventMembers:
		return slog.LevelInfo, "the members have changed"
	case EventTransfer:
		return slog.LevelDebug, "leadership is handed on" // why the role has ended is said, and who has it next
	case EventFailed:
		return slog.LevelError, "callback failed"
	}
	return slog.LevelDebug, string(e.Kind)
}
