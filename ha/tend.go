package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/baton-ha/baton/log"
)

// This file is what the leader does about the list of the members by itself, whoever leads: members that are joining are promoted
// once they have caught up.

// tend looks after the list until ctx ends. What is to be done follows from the list alone, so a new leader goes on with it.
func (n *Node) tend(ctx context.Context) {
	warned := 0 // how many voters there were when it was said how few losses that survives
	for {
		changed := *n.changed.Load()
		again := time.Duration(0)
		if r := n.roster(); n.Status().Leader == n.cfg.Name {
			if voters := len(r.Voters()); warned != voters && !r.Joint() {
				n.warnOf(voters)
				warned = voters
			}
			if n.tendOnce(ctx, r) {
				again = n.cfg.Heartbeat
			}
		}
		if again == 0 {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			continue
		}
		t := time.NewTimer(again)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		t.Stop()
	}
}

// tendOnce does what is to be done, and reports whether something is left.
func (n *Node) tendOnce(ctx context.Context, r *roster) (left bool) {
	if len(firstWords(r)) > 0 {
		err := n.reshapeBy(ctx, "list what the members are configured as", func(g ground) (log.MemberChange, error) {
			return log.MemberChange{Put: firstWords(g.list)}, nil
		})
		left = left || err != nil && !errors.Is(err, errMoved)
	}
	for _, m := range r.Members {
		if !m.Joining {
			continue
		}
		waits := false
		err := n.reshapeBy(ctx, fmt.Sprintf("make a %v of %q", m.Becomes, m.Name), func(g ground) (log.MemberChange, error) {
			now, ok := g.list.Find(m.ID)
			waits = ok && now.Joining && g.missing(m.ID, caughtUp) != ""
			if !ok || !now.Joining || waits {
				return log.MemberChange{}, nil
			}
			return g.promote(m.Name)
		})
		switch {
		case err == nil && waits:
			left = true
		case errors.Is(err, errMoved), ctx.Err() != nil:
			return false
		case err != nil:
			left = true
		}
		n.problem(m.Name, problemPromotion, err)
	}
	return left
}

// firstWords returns the members of a first list of which the configuration says more than the list.
func firstWords(r *roster) (put []log.Member) {
	if r.Version > 1 {
		return nil
	}
	for _, m := range r.Members {
		i := slices.IndexFunc(r.hints, func(h Member) bool { return h.Name == m.Name })
		if i >= 0 && (r.hints[i].Priority != 0 || r.hints[i].Advertise != "" || r.hints[i].Kind == KindArbiter) {
			if r.hints[i].Kind == KindArbiter {
				m.Kind = KindArbiter
			}
			m.Priority, m.Advertise = int(priorityOf(r.hints[i].Priority)), r.hints[i].Advertise
			put = append(put, m)
		}
	}
	return put
}

// warnOf says what is unwise about a number of voters.
func (n *Node) warnOf(voters int) {
	switch {
	case voters == 2:
		n.cfg.Logger.Warn("two voters survive the loss of neither", "member", n.cfg.Name)
	case voters%2 == 0:
		n.cfg.Logger.Warn("an even number of voters survives no more losses than one voter less", "member", n.cfg.Name, "voters", voters)
	}
}
