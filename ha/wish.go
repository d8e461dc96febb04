package ha

import (
	"slices"
	"time"

	"github.com/baton-ha/baton/log"
)

// A wish is what somebody has asked of Become. The machine answers each once.
type wish struct {
	active bool          // to become Active; else to be so no more
	why    string        // the cause of the end of the role, if it is not that somebody has asked for it
	reply  chan<- error  // of size 1
	by     time.Duration // when it is given up
	bears  time.Duration // until when it waits although an obstacle stands that may last
}

// wish takes up what somebody wants.
func (r *role) wish(now time.Duration, w *wish) {
	switch {
	case r.stopped:
		r.out.answer(ErrClosed, w)
	case w.active && r.phase.open():
		r.out.answer(nil, w)
	case w.active:
		r.cool.until, r.fit.rest.until = 0, 0
		w.by = now + r.cfg.drainTimeout + 4*r.cfg.electionTimeout
		w.bears = now + r.cfg.electionTimeout
		r.wishes = append(r.wishes, w)
		r.retryAt = now
	case r.handing != nil:
		r.handing.wishes = append(r.handing.wishes, w)
	case !r.lead.leading:
		r.out.answer(nil, w)
	default:
		r.handOver(now, 0, ErrHandedOver, w)
	}
}

// pursueWishes asks the leader for the role again and again, within bounds. An obstacle that may last is not waited for.
func (r *role) pursueWishes(now time.Duration) {
	for len(r.wishes) > 0 && (now >= r.wishes[0].by || now >= r.wishes[0].bears && r.obstacles.lasting()) {
		why := map[string][]obstacle{}
		if own := r.obstacles.list; len(own) > 0 {
			why[r.cfg.name] = slices.Clone(own)
		}
		r.out.refuse(ErrNotChosen, why, r.wishes[0])
		r.wishes = r.wishes[1:]
	}
	if len(r.wishes) > 0 && !r.lead.leading && r.lead.leader != 0 && now >= r.retryAt && !r.obstacles.lasting() {
		r.retryAt = now + r.cfg.electionTimeout
		r.out.tell(log.AskTransfer{})
	}
}
