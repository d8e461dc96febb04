package ha

import (
	"fmt"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// The role machine decides who may be Active. It is pure: step(now, what) → actions and events. It has
// no goroutine and no clock, and starts nothing itself; the Node and the simulator do what it says.
//
// A member becomes Active when all of this holds:
//
//   - it leads the raft group in its present term, and holds the lease;
//   - the epoch in force is its own, opened in this term, and was not used before;
//   - everything before that epoch is applied here (the log reports an epoch only then);
//   - its OnStandby has returned, and so has the OnActive of its last time;
//   - it is neither cooling down after a failed OnActive nor handing over.
//
// It stays Active while the first two hold and nobody asks it to go.
//
// Invariant: one callback runs at a time. A phase begins when the callback of the last has returned.
type role struct {
	cfg roleConfig

	// As the log reports it.
	leader, term uint64
	leading      bool
	lease        time.Duration
	epoch        log.Epoch // in force, and applied here

	phase     phase
	usedEpoch uint64        // the last that this member was active in
	opening   bool          // an epoch of this member's has been asked for
	retryAt   time.Duration // before which nothing that was refused is asked for again
	coolUntil time.Duration // before which this member does not want the role
	handing   *handover
	wishes    []wish // to become Active, unanswered
	stopped   bool
	err       error // the last failure worth showing

	out output
}

type roleConfig struct {
	name, cluster   string
	heartbeat       time.Duration
	electionTimeout time.Duration
	drainTimeout    time.Duration // how long a callback may take to return once its ctx is over
	coolDown        time.Duration // how long a member stays away after a failed OnActive
	clusterID       [16]byte      // proposed for a new cluster
	// successor picks who could take over leadership now: the one wanted, or the best if that is 0.
	successor func(now time.Duration, want uint64) (uint64, error)
}

// A phase is a role as the callbacks see it.
type phase struct {
	active   bool
	token    fence.Token // of an active phase
	ended    bool        // its ctx is over
	returned bool        // its callback has returned
	endedAt  time.Duration
}

// A handover is under way from the moment the role is given up until someone else leads, or it failed.
type handover struct {
	to   uint64        // the log's id of who shall lead, 0: the best
	sent bool          // the log was told to transfer
	by   time.Duration // when this step must have succeeded
	ids  []int         // of the wishes to be answered
}

type wish struct {
	id int
	by time.Duration
}

// What a role machine is told, beside what the log reports.
type (
	wake         struct{} // its deadline has come
	callbackDone struct { // the callback of the present phase has returned
		err   error
		ended bool // err says only that its ctx has ended
	}
	expired struct { // the timer beside the loop has ended the ctx of an active phase
		token fence.Token
	}
	misuse struct{ err error } // a method was called where it would wait for itself
	become struct {            // somebody wants this member to become active or not
		id     int // names the wish in its answer
		active bool
	}
)

// What a role machine wants done, in order, beside its events for the log.
type (
	run    struct{ phase phase } // call OnActive or OnStandby with a new ctx
	end    struct{ cause error } // end the ctx of the present phase
	answer struct {              // tell how a wish ended
		id  int
		err error
	}
	report struct{ err error } // tell the operator
)

type output struct {
	actions []any
	events  []log.Event
}

// newRole returns the machine of a member that has just started and has recovered the state after the start
// of an epoch. The first step begins its standby phase.
func newRole(cfg roleConfig, epoch log.Epoch) role {
	return role{cfg: cfg, epoch: epoch, phase: phase{active: true, ended: true, returned: true}}
}

// step tells the machine what has happened.
func (r *role) step(now time.Duration, what any) output {
	r.out = output{}
	switch what := what.(type) {
	case log.Leadership:
		if what.Term != r.term || !what.Leading {
			r.opening = false
		}
		r.leader, r.term, r.leading = what.Leader, what.Term, what.Leading
	case log.Lease:
		r.lease = what.Until
	case log.EpochStarted:
		r.epoch = what.Epoch
		r.opening = r.opening && !r.owns(r.epoch)
	case log.StartRefused:
		r.opening, r.retryAt = false, now+r.cfg.heartbeat
	case log.TransferAsked:
		if r.handing == nil {
			r.handOver(now, what.By, nil)
		}
	case log.Stopped:
		r.stop(what.Err)
	case callbackDone:
		r.callbackDone(now, what)
	case expired:
		// The lease may have been renewed since. The ctx is over all the same, so the phase is.
		if r.phase.active && !r.phase.ended && r.phase.token == what.token {
			r.end(now, ErrLeaseExpired)
		}
	case log.MachineFailed:
		r.err = what.Err
	case misuse:
		r.err = what.err
		r.do(report(what))
	case become:
		r.wish(now, what)
	}
	r.reconcile(now)
	return r.out
}

// owns reports whether an epoch gives this member the right to be active now, once.
func (r *role) owns(e log.Epoch) bool {
	return r.leading && e.Holder == r.cfg.name && e.Term == r.term && e.Epoch > r.usedEpoch
}

// lost says why an active phase is over, nil while it is not.
func (r *role) lost(now time.Duration) error {
	switch {
	case r.stopped:
		return ErrClosed
	case r.epoch.Epoch != r.phase.token.Epoch:
		return ErrDeposed
	case !r.leading:
		return ErrDeposed
	case now >= r.lease:
		return ErrLeaseExpired
	}
	return nil
}

// reconcile does what the present state asks for.
func (r *role) reconcile(now time.Duration) {
	if r.phase.active && !r.phase.ended {
		if cause := r.lost(now); cause != nil {
			r.end(now, cause)
		}
	}
	if r.stopped {
		if !r.phase.ended {
			r.end(now, ErrClosed)
		}
		return
	}
	r.pursueHandover(now)
	r.pursueWishes(now)
	if r.phase.active && r.phase.ended && r.phase.returned {
		r.begin(phase{})
	}
	if r.leading && r.handing == nil {
		r.pursueRole(now)
	}
}

// pursueRole makes the leader active, or finds a leader who can be.
func (r *role) pursueRole(now time.Duration) {
	hung := r.phase.ended && !r.phase.returned && now >= r.phase.endedAt+r.cfg.drainTimeout
	switch {
	case r.phase.active && !r.phase.ended:
	case hung, now < r.coolUntil:
		// Leading without being able to be active: keep the log alive, and hand leadership on.
		if now < r.retryAt {
			return
		}
		r.retryAt = now + r.cfg.electionTimeout
		if to, err := r.cfg.successor(now, 0); err == nil {
			r.transfer(now, &handover{}, to)
		}
	case now >= r.lease, r.phase.active:
	case !r.owns(r.epoch):
		if !r.opening && now >= r.retryAt {
			r.opening = true
			r.out.events = append(r.out.events, log.StartEpoch{ClusterID: r.cfg.clusterID})
		}
	default:
		if !r.phase.ended {
			r.end(now, ErrActivating)
		}
		if r.phase.returned {
			r.usedEpoch = r.epoch.Epoch
			r.begin(phase{active: true, token: fence.Token{Cluster: r.cfg.cluster, Epoch: r.epoch.Epoch, Holder: r.cfg.name}})
		}
	}
}

// begin starts a phase, the callback of the last one having returned.
func (r *role) begin(p phase) {
	r.phase = p
	r.do(run{p})
	if p.active {
		for _, w := range r.wishes {
			r.do(answer{w.id, nil})
		}
		r.wishes = nil
	}
}

// end ends the ctx of the present phase.
func (r *role) end(now time.Duration, cause error) {
	r.phase.ended, r.phase.endedAt = true, now
	r.do(end{cause})
	if cause == ErrLeaseExpired {
		r.out.events = append(r.out.events, log.Lapsed{})
	}
}

// callbackDone notes that the phase's callback has returned. An OnActive that fails while its role
// lasts gives the role up, and stays away for a while, as ZKFC does.
func (r *role) callbackDone(now time.Duration, done callbackDone) {
	r.phase.returned = true
	if done.err == nil {
		return
	}
	name := "OnStandby"
	if r.phase.active {
		name = "OnActive"
	}
	err := fmt.Errorf("baton: %s: %w", name, done.err)
	if r.phase.ended && done.ended {
		return // it says that its ctx has ended, which is known
	}
	r.err = err
	r.do(report{err})
	if r.phase.active && !r.phase.ended {
		r.coolUntil, r.retryAt = now+r.cfg.coolDown, now
		r.end(now, err)
	}
}

// wish takes up what somebody wants.
func (r *role) wish(now time.Duration, b become) {
	switch {
	case r.stopped:
		r.do(answer{b.id, ErrClosed})
	case b.active && r.phase.active && !r.phase.ended:
		r.do(answer{b.id, nil})
	case b.active:
		r.coolUntil = 0
		r.wishes = append(r.wishes, wish{b.id, now + r.cfg.drainTimeout + 4*r.cfg.electionTimeout})
		r.retryAt = now
	case r.handing != nil:
		r.handing.ids = append(r.handing.ids, b.id)
	case !r.leading:
		r.do(answer{b.id, nil})
	default:
		r.handOver(now, 0, []int{b.id})
	}
}

// pursueWishes asks the leader for the role again and again, within bounds.
func (r *role) pursueWishes(now time.Duration) {
	for len(r.wishes) > 0 && now >= r.wishes[0].by {
		r.do(answer{r.wishes[0].id, ErrNotChosen})
		r.wishes = r.wishes[1:]
	}
	if len(r.wishes) > 0 && !r.leading && r.leader != 0 && now >= r.retryAt {
		r.retryAt = now + r.cfg.electionTimeout
		r.out.events = append(r.out.events, log.AskTransfer{})
	}
}

// handOver begins a handover, or refuses it and leaves everything as it is.
func (r *role) handOver(now time.Duration, to uint64, ids []int) {
	to, err := r.cfg.successor(now, to)
	if err != nil || !r.leading {
		for _, id := range ids {
			r.do(answer{id, err})
		}
		return
	}
	r.handing = &handover{to: to, ids: ids, by: now + r.cfg.drainTimeout}
	if r.phase.active && !r.phase.ended {
		r.end(now, ErrHandedOver)
	}
}

// pursueHandover takes a handover one step further: OnActive returns, the log transfers, someone else
// leads.
func (r *role) pursueHandover(now time.Duration) {
	h := r.handing
	switch {
	case h == nil:
	case !r.leading && r.leader != 0:
		r.handing = nil
		for _, id := range h.ids {
			r.do(answer{id, nil})
		}
	case !h.sent && r.leading && (!r.phase.active || r.phase.returned || now >= h.by):
		// The successor was chosen before the role ended; it may have gone since.
		to, err := r.cfg.successor(now, h.to)
		if err != nil {
			r.failHandover(err)
			return
		}
		r.transfer(now, h, to)
	case now >= h.by && (h.sent || !r.leading):
		r.failHandover(ErrNotHandedOver)
	}
}

// transfer tells the log to hand leadership on, the role being over.
func (r *role) transfer(now time.Duration, h *handover, to uint64) {
	h.sent, h.by = true, now+2*r.cfg.electionTimeout
	r.handing, r.opening = h, false
	r.out.events = append(r.out.events, log.Transfer{To: to})
}

func (r *role) failHandover(err error) {
	ids := r.handing.ids
	r.handing = nil
	for _, id := range ids {
		r.do(answer{id, err})
	}
}

// stop ends everything for good.
func (r *role) stop(err error) {
	r.stopped, r.err = true, err
	if r.handing != nil {
		r.failHandover(ErrClosed)
	}
	for _, w := range r.wishes {
		r.do(answer{w.id, ErrClosed})
	}
	r.wishes, r.leading, r.leader = nil, false, 0
}

func (r *role) do(action any) { r.out.actions = append(r.out.actions, action) }

// deadline is when the machine wants to be woken next, 0 for never.
func (r *role) deadline(now time.Duration) time.Duration {
	var at time.Duration
	soonest := func(t time.Duration) {
		if t > now && (at == 0 || t < at) {
			at = t
		}
	}
	if r.stopped {
		return 0
	}
	if r.phase.active && !r.phase.ended {
		soonest(r.lease)
	}
	if r.handing != nil {
		soonest(r.handing.by)
	}
	if len(r.wishes) > 0 {
		soonest(r.wishes[0].by)
		soonest(r.retryAt)
	}
	if r.leading && !(r.phase.active && !r.phase.ended) {
		soonest(r.retryAt)
		soonest(r.coolUntil)
		if r.phase.ended && !r.phase.returned {
			soonest(r.phase.endedAt + r.cfg.drainTimeout)
		}
	}
	return at
}

// state is the role as [Status] shows it.
func (r *role) state(now time.Duration) State {
	switch {
	case r.stopped:
		return Failed
	case r.phase.active && !r.phase.ended:
		return Active
	case r.phase.token.Valid(), r.handing != nil:
		return Draining
	case r.leading && now >= r.coolUntil:
		return Activating
	case r.leader != 0:
		return Standby
	default:
		return Electing
	}
}
