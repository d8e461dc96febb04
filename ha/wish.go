package ha

import (
	"time"

	"github.com/baton-ha/baton/log"
)

// A wish is what somebody has asked of Become. The machine answers each once.
type wish struct {
	active bool          // to become Active; else to be so no more
	reply  chan<- error  // of size 1
	by     time.Duration // when it is given up
}

// wish takes up what somebody wants.
func (r *role) wish(now time.Duration, w *wish) {
	switch {
	case r.stopped:
		r.out.answer(ErrClosed, w)
	case w.active && r.phase.open():
		r.out.answer(nil, w)
	case w.active:
		r.coolUntil = 0
		w.by = now + r.cfg.drainTimeout + 4*r.cfg.electionTimeout
		r.wishes = append(r.wishes, w)
		r.retryAt = now
	case r.handing != nil:
		r.handing.wishes = append(r.handing.wishes, w)
	case !r.lead.leading:
		r.out.answer(nil, w)
	default:
		r.handOver(now, 0, w)
	}
}

// pursueWishes asks the leader for the role again and again, within bounds.
func (r *role) pursueWishes(now time.Duration) {
	for len(r.wishes) > 0 && now >= r.wishes[0].by {
		r.out.answer(ErrNotChosen, r.wishes[0])
		r.wishes = r.wishes[1:]
	}
	if len(r.wishes) > 0 && !r.lead.leading && r.lead.leader != 0 && now >= r.retryAt {
		r.retryAt = now + r.cfg.electionTimeout
		r.out.tell(log.AskTransfer{})
	}
}
