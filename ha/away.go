package ha

import (
	"context"
	"time"
)

// This file keeps a member away from the role because somebody has asked for it, for maintenance.

// StayAway keeps this member from the role until [Node.ComeBack], for maintenance: it goes on voting and follows the log. The
// reason is shown as the text of the obstacle [ObstacleAway]. An Active ends OnActive's ctx and hands over first, as Become(Standby)
// does, and with its errors: [ErrNoSuccessor] and [ErrNotHandedOver] mean that this member keeps the role, and does
// not stay away. On any other member it returns nil at once; if that is elected because there is nobody else, it keeps the log alive
// without being Active. It does not outlast the process: see Config.StayAway.
//
// When ctx ends first, its cause is returned, and what was begun goes on. Within a callback or the state machine it
// returns [ErrReentrant].
func (n *Node) StayAway(ctx context.Context, reason string) error {
	if in := n.inside(); in != "" {
		return n.misused("StayAway", in)
	}
	if reason == "" {
		reason = "it was asked to stay away"
	}
	return n.wish(ctx, func(w *wish) input { return keepAway{reason, w} })
}

// ComeBack ends what StayAway and Config.StayAway have begun. The member takes the role again when it falls to it. It returns
// at once, and never fails.
func (n *Node) ComeBack() { n.log.Post(keepAway{}) }

// stayAway keeps this member away from now on, or once it has handed over; without a reason no longer.
func (r *role) stayAway(now time.Duration, reason string, w *wish) {
	switch {
	case reason == "":
		r.away = ""
		r.retryAt = min(r.retryAt, now)
		if r.handing != nil {
			r.handing.away = ""
		}
	case r.stopped:
		r.out.answer(ErrClosed, w)
	case r.handing != nil:
		r.handing.away = reason
		r.handing.wishes = append(r.handing.wishes, w)
	case r.lead.leading && !r.barred():
		if r.handOver(now, 0, ErrHandedOver, w); r.handing != nil {
			r.handing.away = reason
		}
	default:
		r.obstacles.retell(ObstacleAway)
		r.away = reason
		r.out.answer(nil, w)
	}
}
