package ha

import (
	"fmt"
	"time"
)

// This file is when Config.OnFence runs. It runs before the epoch is asked for, not between the epoch and OnActive: so
// an epoch in the log says that whoever was active before it has been kept out, as far as the policy asks, and one who takes over
// from a member whose OnFence has failed still finds the one who is to be kept out as the holder of the epoch in force. Nothing
// has to be remembered for that beside the log.

// fencing is the last run of OnFence. It is not a phase: OnStandby goes on meanwhile.
type fencing struct {
	epoch   uint64        // whose holder is to be kept out
	running bool          // it has not returned
	ended   bool          // its ctx is over
	until   time.Duration // when that ends, or has ended
	done    bool          // whoever held the epoch is kept out, or the policy lets it be
}

// hung reports whether it has not returned although its ctx is over for as long as it may take.
func (f *fencing) hung(now, drain time.Duration) bool {
	return f.running && f.ended && now >= f.until+drain
}

// fenced reports whether nobody is to be kept out any more before this member opens an epoch. Else it sees to that, once
// it knows who was active last, which is when everything before its own leadership is applied, and that nobody is now: while it holds the lease.
func (r *role) fenced(now time.Duration) bool {
	e, f := r.lead.epoch, &r.fence
	switch {
	case r.cfg.fenceTimeout == 0:
		return true
	case r.settled != r.lead.term:
		return false
	case now >= r.lead.lease:
		return false // another may lead by now without its being known here, and the one who was active last be active again
	case e.Epoch == 0 || f.done && f.epoch == e.Epoch:
		return true
	case e.Holder == r.cfg.name && e.Term >= r.ledFirst:
		return true // it was this process, whose OnActive has returned
	case !f.running:
		*f = fencing{epoch: e.Epoch, running: true, until: now + r.cfg.fenceTimeout}
		r.out.do(runFence{Previous{Name: e.Holder, Epoch: e.Epoch, Ended: r.endingOf(e.Holder, e.Term)}})
	}
	return false
}

// endingOf says how the time of the holder of the epoch in force is known to have ended, its epoch being of a term.
func (r *role) endingOf(holder string, term uint64) Ending {
	after := r.after
	switch {
	case holder == r.cfg.name:
		return EndedRestarted // this process has the lock on its directory
	case r.nameOf(after.Leader) != holder || after.Term != term:
		return EndedUnknown // somebody has led in between, and knew more
	}
	return endings[after.Ended]
}

// pursueFencing ends the ctx of an OnFence that is of no use any more, or takes too long.
func (r *role) pursueFencing(now time.Duration) {
	f := &r.fence
	switch {
	case !f.running || f.ended:
	case r.stopped:
		r.endFence(now, ErrClosed)
	case !r.lead.leading:
		r.endFence(now, ErrDeposed)
	case now >= r.lead.lease:
		r.endFence(now, ErrLeaseExpired)
	case r.handing != nil || r.barred():
		r.endFence(now, ErrHandedOver)
	case now >= f.until:
		r.endFence(now, errFenceTimeout)
	}
}

func (r *role) endFence(now time.Duration, cause error) {
	r.fence.ended, r.fence.until = true, now
	r.out.do(endFence{cause})
}

// fenceDone notes that OnFence has returned. What it has done counts whoever leads by now: nobody was active since, or there
// is another epoch.
func (r *role) fenceDone(now time.Duration, done fenceDone) {
	f := &r.fence
	f.running, f.done = false, done.err == nil
	if done.err == nil || f.ended && done.ended {
		return
	}
	r.err = fmt.Errorf("baton: OnFence: %w", done.err)
	r.out.do(report{r.err})
	if f.done = r.cfg.fencePolicy == FenceBestEffort; !f.done && r.lead.leading {
		r.cool.again(now, r.cfg.coolDown)
		r.coolErr, r.retryAt = r.err, now
	}
}
