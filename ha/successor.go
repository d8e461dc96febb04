package ha

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/baton-ha/baton/log"
)

// successor picks the member to which leadership could be handed now: the one wanted if nothing is in its way or, if want is
// 0, the best. That is one that is well if there is any, of those one of the highest priority, of those the one that has most, of
// those the first by id. Health comes before priority: a high priority is no reason to send the role where it will not stay. One that
// is wanted has asked for itself, so it knows better than what it has said of itself before. It returns 0 where there is
// none, and what is in the way of each.
func (r *role) successor(now time.Duration, want uint64) (uint64, map[string][]obstacle) {
	if id := r.best(now, want, true); id != 0 {
		return id, nil
	}
	if id := r.best(now, want, false); id != 0 {
		return id, nil
	}
	why := make(map[string][]obstacle)
	for _, p := range r.view.Peers {
		if want == 0 || want == p.ID {
			why[r.nameOf(p.ID)] = r.obstaclesOf(now, p, want == 0)
		}
	}
	return 0, why
}

// best is successor among all that could take over, or among those only that are well.
func (r *role) best(now time.Duration, want uint64, well bool) uint64 {
	var best log.PeerView
	for _, p := range r.view.Peers {
		obstacles := r.obstaclesOf(now, p, want == 0)
		barred := slices.ContainsFunc(obstacles, func(o obstacle) bool { return o.kind.bars() })
		if want != 0 && p.ID != want || barred || well && len(obstacles) > 0 {
			continue
		}
		if best.ID == 0 || cmp.Or(cmp.Compare(r.priority(best.ID), r.priority(p.ID)), cmp.Compare(p.Behind, best.Behind)) < 0 {
			best = p
		}
	}
	return best.ID
}

// obstaclesOf says what is in the way of another member, as far as this one, which leads, knows, and if said, as far as that
// one has said.
func (r *role) obstaclesOf(now time.Duration, p log.PeerView, said bool) (list []obstacle) {
	add := func(kind ObstacleKind, since time.Duration, text string) {
		list = append(list, obstacle{kind: kind, since: since, text: text})
	}
	if p.Heard <= max(0, now-silentBeats*r.cfg.heartbeat) {
		text := "it has not answered in this term"
		if p.Heard != 0 {
			text = fmt.Sprintf("it has not answered for %v", (now - p.Heard).Round(time.Millisecond))
		}
		add(ObstacleSilent, p.Heard, text)
	}
	if p.Guarded {
		add(ObstacleRestart, 0, "it has just started, and keeps what it may have promised before")
	}
	if p.Behind > maxLag {
		add(ObstacleLagging, 0, fmt.Sprintf("it lacks %d entries", p.Behind))
	}
	if p.Starved {
		add(ObstacleStarved, 0, "it does not get to run in time")
	}
	for _, o := range r.others[p.ID] {
		if o.kind == ObstacleSilent && p.Heard > o.since {
			continue // it had left, or was lost, and is back
		}
		if o.kind != ObstacleSilent && !said {
			continue
		}
		if (o.until == 0 || now < o.until) && !slices.ContainsFunc(list, func(x obstacle) bool { return x.kind == o.kind }) {
			list = append(list, o)
		}
	}
	return list
}

// silent is what is in the way of a member of which nothing counts that it has answered up to a time: its process may be another one
// since. It is over when a heartbeat is answered that was sent later.
func silent(since time.Duration, why string) obstacle {
	return obstacle{kind: ObstacleSilent, since: since, text: why}
}

func isSilent(o obstacle) bool { return o.kind == ObstacleSilent }

// said takes note of what another member has said to be in its way. That it is there says nothing of what it has answered.
func (r *role) said(id uint64, now []obstacle) {
	if was := r.others[id]; !slices.ContainsFunc(now, isSilent) {
		if i := slices.IndexFunc(was, isSilent); i >= 0 {
			now = append(slices.Clip(now), was[i])
		}
	}
	r.others[id] = now
}

// lostTouch takes note that messages to another member were lost. What it has said to be in its way stays.
func (r *role) lostTouch(now time.Duration, id uint64) {
	said := slices.DeleteFunc(slices.Clone(r.others[id]), isSilent)
	r.others[id] = append(said, silent(now, "messages to it were lost, and it has not answered since"))
}

// fails reports whether the member that was chosen in a handover at a time cannot take over any more: it is gone, or it has just started.
func (r *role) fails(id uint64, chosen time.Duration) bool {
	return r.gone(id, chosen) || slices.ContainsFunc(r.view.Peers, func(p log.PeerView) bool { return p.ID == id && p.Guarded })
}

// gone reports whether another member has said since a time that it leaves, or its process has ended or may have, and that it was not heard after that. What was
// said before is over where it could be chosen at that time. Who does not lead hears nobody.
func (r *role) gone(id uint64, since time.Duration) bool {
	var heard time.Duration
	if i := slices.IndexFunc(r.view.Peers, func(p log.PeerView) bool { return p.ID == id }); i >= 0 {
		heard = r.view.Peers[i].Heard
	}
	return slices.ContainsFunc(r.others[id], func(o obstacle) bool { return o.kind == ObstacleSilent && o.since >= since && heard <= o.since })
}

// priority is a member's in the list of the members.
func (r *role) priority(id uint64) int {
	m, _ := r.list.Known(id)
	return m.Priority
}

// silentBeats is how many heartbeats another member may leave unanswered before it may be gone.
const silentBeats = 4

// pursueRelief hands the role over to a member that is well, when this one does not get to run in time, or has no room for
// what is appended.
func (r *role) pursueRelief(now time.Duration) {
	needed := r.view.Pressed || r.obstacles.stands(ObstacleDiskFull)
	if !needed || now < r.relieveAt || !r.lead.leading || r.handing != nil || now >= r.lead.lease {
		return
	}
	if r.best(now, 0, true) != 0 {
		r.relieveAt = now + relieveRest*r.cfg.electionTimeout
		r.handOver(now, 0, ErrHandedOver)
	}
}

// relieveRest is how many election timeouts there are between two hand-overs for want of running or of room.
const relieveRest = 6

// A prospect is a member of higher priority that is well and has caught up, and since when.
type prospect struct {
	id    uint64
	since time.Duration
}

// pursuePreemption hands the role over to a member of higher priority that is well and has caught up for as long as the
// configuration asks: one that comes and goes does not take it.
func (r *role) pursuePreemption(now time.Duration) {
	if r.cfg.preempt == 0 {
		return
	}
	to := uint64(0)
	if r.phase.open() && r.handing == nil {
		to = r.best(now, 0, true)
	}
	switch {
	case to == 0 || r.priority(to) <= r.priority(r.cfg.id):
		r.higher = prospect{}
	case to != r.higher.id:
		r.higher = prospect{to, now}
	case now >= r.higher.since+r.cfg.preempt:
		r.higher = prospect{}
		r.handOver(now, 0, ErrHandedOver)
	}
}
