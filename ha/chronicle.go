package ha

import (
	"fmt"
	"strings"
	"time"

	"github.com/baton-ha/baton/log"
)

// This file makes events of what goes into the role machine and comes out of it, on the loop.

// chronicle is what is needed to say what an input means. It is owned by the log's loop.
type chronicle struct {
	lead    log.Leadership // as told last
	kept    uint64         // raft index of the last entry that was there when the process began: nothing up to it is new
	active  uint64         // the epoch of this member's role, 0: it has none
	running uint64         // that of the OnActive that runs, 0: none does
	why     string         // how the time of the leader before this member has ended
	lease   time.Duration  // until when the last lease lasts, or has lasted
	doubted time.Duration  // by how much the clock on the wall got ahead, where the lease is given up for that
	failure error          // why the member has failed
	asked   string         // why the role is being given up: one of the causes
	by      string         // who has asked
	heard   time.Duration  // when the leader before this member was heard last
	elected time.Duration  // when this member was, or when its role ended if it leads on in the same term
	fencing time.Duration  // when OnFence was called
	fence   time.Duration  // what it took
	epoch   time.Duration  // when the own epoch had started
	inForce log.Epoch      // as told last
	toll    toll
}

// tell records what has come of an input.
func (n *Node) tell(now time.Duration, in input, out output) {
	c, name := &n.story, func(id uint64) string { return n.roster().nameOf(id) }
	if c.toll.over {
		n.tollSettled(0)
	}
	switch in := in.(type) {
	case reported:
		switch ch := in.change.(type) {
		case log.Leadership:
			n.tellLeadership(now, ch)
		case log.EpochStarted:
			e := ch.Epoch
			n.tollEpoch(now, e, c.inForce)
			c.inForce = e
			if c.epoch = now; c.lead.Leader == 0 {
				break // it was recovered
			}
			n.event(Event{Kind: EventEpoch, Epoch: e.Epoch, Term: e.Term, Peer: e.Holder, Text: fmt.Sprintf("epoch %d of %s has started", e.Epoch, e.Holder)})
		case log.Lease:
			if ch.Until > 0 {
				c.lease, c.doubted = ch.Until, 0
			}
		case log.Doubted:
			c.doubted = ch.By
		case log.TransferAsked:
			c.asked, c.by = CauseAsked, name(ch.By)
		}
	case become:
		c.asked, c.by = in.wish.why, n.cfg.Name
	case acknowledged:
		n.tollServed(in.Acknowledged)
	case keepAway:
		c.asked, c.by = CauseAway, n.cfg.Name
	case fenceDone:
		c.fence = now - c.fencing
		e := Event{Kind: EventFenced, Text: fmt.Sprintf("OnFence has succeeded, after %v", c.fence.Round(time.Microsecond))}
		if in.err != nil {
			e.Cause, e.Text = "failed", fmt.Sprintf("OnFence has failed, after %v: %s", c.fence.Round(time.Microsecond), firstLine(in.err))
		}
		n.event(e)
	case stopped:
		e := Event{Kind: EventStopped, Cause: CauseClosed, Text: "the member was closed"}
		if in.err != nil {
			e.Cause, e.Text = "failed", "the member has failed: "+firstLine(in.err)
			c.asked, c.failure = CauseStopped, in.err
		}
		defer func() {
			if c.toll.epoch != 0 {
				n.tollSettled(in.unknown)
			}
			n.eventOf(e, in.err)
		}()
	}
	ran := c.running
	for _, a := range out.actions {
		n.tellAction(now, a)
	}
	if _, ok := in.(callbackDone); ok && ran != 0 {
		n.event(Event{Kind: EventReturned, Epoch: ran, Text: "OnActive has returned"})
		c.running = 0
	}
	for _, ev := range out.events {
		if t, ok := ev.(log.Transfer); ok {
			n.event(Event{Kind: EventTransfer, Peer: name(t.To), Term: c.lead.Term, Text: fmt.Sprintf("leadership is handed to %s, which is the best that is well", name(t.To))})
		}
	}
	if n.role.handing == nil {
		c.asked, c.by = "", ""
	}
}

// tellLeadership records who leads.
func (n *Node) tellLeadership(now time.Duration, l log.Leadership) {
	c := &n.story
	was := c.lead
	c.lead = l
	leader := n.roster().nameOf(l.Leader)
	switch {
	case l.Leading && !was.Leading:
		c.elected, c.heard, c.fence = now, n.log.Heard(), 0
		e := Event{Kind: EventElected, Term: l.Term, Peer: n.roster().nameOf(l.After.Leader), Cause: string(endings[l.After.Ended])}
		e.Text, c.why = fmt.Sprintf("elected in term %d", l.Term), ""
		switch l.After.Ended {
		case log.EndTransfer:
			c.why = fmt.Sprintf("%s has handed leadership on", e.Peer)
		case log.EndGone:
			c.why = fmt.Sprintf("%s's connections ended and its address refuses new ones, so its process is gone", e.Peer)
		case log.EndSilent:
			if l.After.Leader == n.self.ID {
				break // it has led itself
			}
			c.why = fmt.Sprintf("%s was not heard for %v", e.Peer, (now - c.heard).Round(time.Millisecond))
		}
		if c.why != "" {
			e.Text += ": " + c.why
		}
		n.event(e)
	case l.Leader != 0 && (l.Leader != was.Leader || l.Term != was.Term) && !l.Leading:
		n.event(Event{Kind: EventLeader, Term: l.Term, Peer: leader, Text: fmt.Sprintf("%s leads in term %d", leader, l.Term)})
	case l.Leader == 0 && was.Leader != 0:
		n.event(Event{Kind: EventLeader, Term: l.Term, Text: fmt.Sprintf("nobody is known to lead any more in term %d", l.Term)})
	}
}

// tellAction records what the role machine wants.
func (n *Node) tellAction(now time.Duration, a action) {
	c := &n.story
	switch a := a.(type) {
	case run:
		if !a.phase.active {
			return
		}
		c.active = a.phase.token.Epoch
		c.running = c.active
		n.roles.count(func(s *RoleStats) { s.Taken++ })
		p := Phases{Fence: c.fence, Epoch: max(0, c.epoch-c.elected-c.fence), Stand: now - c.epoch}
		if c.lead.After.Leader != 0 && c.heard != 0 {
			p.Detect = c.elected - c.heard
		}
		e := Event{Kind: EventActive, Epoch: c.active, Term: c.lead.Term, Phases: &p, Text: fmt.Sprintf("active in epoch %d", c.active)}
		if took := p.words(10 * time.Microsecond); took != "" {
			e.Text += ": " + took
		}
		if c.why != "" {
			e.Text += "; " + c.why
			c.why = "" // the next epoch of this term has another reason
		}
		n.event(e)
	case end:
		if c.active == 0 || a.cause == ErrActivating {
			return
		}
		cause := n.causeOf(a.cause)
		why := strings.TrimPrefix(firstLine(a.cause), "the role has ended: ")
		late := now - c.lease
		switch {
		case (cause == CauseLease || cause == CauseDeposed) && late > n.pauseNoticed():
			cause = CausePaused
			why = fmt.Sprintf("the lease expired %v ago, and this process did not run to see it: it was stopped, or its machine, or got no processor", late.Round(time.Millisecond))
		case cause == CauseLease && c.doubted > 0:
			why = fmt.Sprintf("the clock on the wall got ahead by %v: it was set, or the machine was paused for as long, and then the lease has expired", c.doubted.Round(time.Millisecond))
		case cause == CauseStopped:
			why = "the member has failed: " + firstLine(c.failure)
		case cause == CauseAsked:
			why += ", as asked on " + c.by
		case a.cause == ErrHandedOver:
			why += ", since " + handedOver[cause]
		}
		text := fmt.Sprintf("the role of epoch %d ends: %s", c.active, why)
		n.event(Event{Kind: EventEnded, Epoch: c.active, Term: c.lead.Term, Cause: cause, Text: text})
		n.roles.count(func(s *RoleStats) {
			if s.Ended == nil {
				s.Ended = make(map[string]uint64)
			}
			s.Ended[cause]++
		})
		n.tollEnded(c.active)
		c.active = 0
		if c.lead.Term == c.inForce.Term { // another epoch of this term goes on from here
			c.elected, c.heard, c.fence = now, 0, 0
		}
	case runFence:
		c.fencing = now
		n.event(Event{Kind: EventFencing, Peer: a.previous.Name, Epoch: a.previous.Epoch, Cause: string(a.previous.Ended), Text: fmt.Sprintf(
			"OnFence is called to keep %s out, which was active in epoch %d: %s", a.previous.Name, a.previous.Epoch, a.previous.Ended)})
	case report:
		n.eventOf(Event{Kind: EventFailed, Text: firstLine(a.err)}, a.err)
	}
}

// pauseNoticed is how late the end of a lease is seen by a process that did not run; busy machines are late by less.
func (n *Node) pauseNoticed() time.Duration { return max(2*n.cfg.Heartbeat, n.cfg.ElectionTimeout/4) }

// handedOver is why a role was handed over without anybody having asked for that.
var handedOver = map[string]string{
	CauseClosed: "the member is closed", CauseAway: "it is to stay away", CauseMembers: "a change of the members takes its place or its vote",
	CausePreempted: "a member of higher priority is well", CauseStarved: "it does not get to run in time", CauseDiskFull: "its disk is nearly full",
}

// causeOf says in one word why the role ends.
func (n *Node) causeOf(err error) string {
	c := &n.story
	_, sick := err.(*unwell)
	switch {
	case sick:
		return CauseUnhealthy
	case err == ErrLeaseExpired:
		return CauseLease
	case err == ErrDeposed:
		return CauseDeposed
	case err == ErrClosed && c.asked == CauseStopped:
		return CauseStopped
	case err == ErrClosed:
		return CauseClosed
	case err != ErrHandedOver:
		return CauseOnActive
	case c.asked != "":
		return c.asked
	case n.role.view.Pressed:
		return CauseStarved
	case n.role.obstacles.stands(ObstacleDiskFull):
		return CauseDiskFull
	}
	return CausePreempted
}

// tellCondition records that an obstacle or a problem has begun, says something else, or is over.
func (n *Node) tellCondition(key conditionKey, text string) {
	if key.quiet() && key.kind != string(ObstacleCoolDown) { // a cool-down is why nobody is Active, though the log has said what it comes of
		return
	}
	e := Event{Kind: EventProblem, Cause: key.kind, Peer: key.peer}
	about := key.kind
	if key.peer != "" {
		about += " (" + key.peer + ")"
	}
	if key.obstacle {
		e.Kind = EventObstacle
	}
	if e.Text = fmt.Sprintf("%s %s: %s", key.name(), about, text); text == "" {
		e.Kind += "-over"
		e.Text = fmt.Sprintf("%s %s is over", key.name(), about)
	}
	n.events.record(e)
}
