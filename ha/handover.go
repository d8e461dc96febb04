package ha

import (
	"time"

	"github.com/baton-ha/baton/log"
)

// A handover is under way from the moment the role is given up until someone else leads, or it failed: first OnActive
// returns, then the log transfers.
type handover struct {
	to     uint64        // the log's id of who shall lead, 0: whoever is best when the time has come
	chosen uint64        // to whom the log was told to transfer, 0: it was not yet
	at     time.Duration // when it was
	by     time.Duration // when this step must have succeeded
	wishes []*wish       // to be answered with how it ends
	away   string        // why this member stays away once someone else leads, "" if it does not
}

// handOver begins a handover, because of which the role ends with a cause, or refuses it and leaves everything as it is.
func (r *role) handOver(now time.Duration, to uint64, cause error, wishes ...*wish) {
	if !r.lead.leading {
		r.out.answer(nil, wishes...)
		return
	}
	if id, why := r.successor(now, to); id == 0 {
		r.out.refuse(ErrNoSuccessor, why, wishes...)
		return
	}
	if r.phase.open() {
		r.end(now, cause)
	}
	since := now
	if r.phase.active {
		since = r.phase.endedAt
	}
	r.handing = &handover{to: to, wishes: wishes, by: max(now, since+r.cfg.drainTimeout)}
}

// pursueHandover takes a handover one step further.
func (r *role) pursueHandover(now time.Duration) {
	h := r.handing
	switch {
	case h == nil:
	case !r.lead.leading && r.lead.leader != 0:
		r.endHandover(nil)
	case r.lead.leading && h.chosen == 0 && (!r.phase.active || r.phase.returned || now >= h.by):
		// There was somebody before the role ended; it may have gone since.
		to, why := r.successor(now, h.to)
		if to == 0 {
			r.handing = nil
			r.out.refuse(ErrNoSuccessor, why, h.wishes...)
			return
		}
		r.transfer(now, h, to)
	case h.chosen != 0 && r.fails(h.chosen, h.at):
		// It takes over no more, or not now. Another may, as long as this member leads.
		if to, _ := r.successor(now, h.to); r.lead.leading && to != 0 {
			r.transfer(now, h, to)
			return
		}
		r.endHandover(ErrNotHandedOver)
	case now >= h.by && (h.chosen != 0 || !r.lead.leading):
		r.endHandover(ErrNotHandedOver)
	}
}

// transfer tells the log to hand leadership on, the role being over.
func (r *role) transfer(now time.Duration, h *handover, to uint64) {
	h.chosen, h.at, h.by = to, now, now+2*r.cfg.electionTimeout
	r.handing, r.opening = h, false
	r.out.tell(log.Transfer{To: to})
}

// endHandover ends it; a nil error says that someone else leads. If this member still does, it need not wait for the log to give the
// transfer up.
func (r *role) endHandover(err error) {
	if err != nil && r.lead.leading && r.handing.chosen != 0 {
		r.out.tell(log.KeepLead{})
	}
	wishes := r.handing.wishes
	if err == nil && r.handing.away != "" {
		r.away = r.handing.away
	}
	r.handing = nil
	r.out.answer(err, wishes...)
}
