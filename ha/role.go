package ha

import (
	"maps"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// The role machine decides who may be Active. It is pure: step(now, input) → actions and events. It has
// no goroutine and no clock, and starts nothing itself; the Node and the simulator do what it says.
//
// A member becomes Active when all of this holds:
//
//   - it leads the raft group in its present term, and holds the lease;
//   - the epoch in force is its own, opened in this term, and was not used before;
//   - everything before that epoch is applied here (the log reports an epoch only then);
//   - its OnStandby has returned, and so has the OnActive of its last time;
//   - before that epoch, OnFence has kept out whoever was active last, where the configuration asks for that;
//   - no obstacle bars it: it is neither sick, nor cooling down after a failed OnActive, nor handing over, and no callback hangs.
//
// It stays Active while the first two hold, it is not sick, and nobody asks it to go.
//
// Its parts have files of their own: the phase (phase.go), a handover (handover.go), wishes (wish.go), obstacles (obstruct.go),
// its health (sick.go), staying away (away.go), who is kept out before (fencing.go), the choice of a successor (successor.go). What goes in and out is in input.go.
type role struct {
	cfg  roleConfig
	list log.Roster // the members
	view log.View   // of this step
	lead leadership

	phase     phase
	obstacles obstacles
	others    map[uint64][]obstacle // what they have said of theirs
	usedEpoch uint64                // the last that this member was active in
	opening   bool                  // an epoch of this member's has been asked for
	openedIn  uint64                // the term in which that was, last
	retryAt   time.Duration         // before which nothing that was refused is asked for again
	cool      damper                // after OnActive has failed
	coolErr   error                 // why
	fit       fitness
	disk      probation
	away      string // why it was asked to stay away; "": it was not
	higher    prospect
	reluctant bool // the log knows that others had better lead
	fence     fencing
	after     log.Succession // how this member came to lead
	settled   uint64         // the last term in which it led and everything before was applied
	ledFirst  uint64         // the first term in which this process led, 0 if it never has
	yielded   uint64         // the term in which it has offered the role to others, having been sick a moment ago
	relieveAt time.Duration  // before which it does not hand over again for want of running
	handing   *handover
	wishes    []*wish // to become Active, unanswered
	stopped   bool
	err       error // the last failure worth showing

	out output
}

type roleConfig struct {
	id              uint64 // this member's, the log's
	name, cluster   string
	heartbeat       time.Duration
	electionTimeout time.Duration
	drainTimeout    time.Duration // how long a callback may take to return once its ctx is over
	coolDown        time.Duration // how long a member stays away after a failed OnActive, or after it was sick
	fenceTimeout    time.Duration // how long OnFence may take; 0: there is none
	fencePolicy     FencePolicy
	preempt         time.Duration // how long a member of higher priority must have been well to get the role; 0: it does not
	away            string        // why it is to stay away from the start on, "" if it is not
	arbiter         bool          // this member never has the role
	strikes         int           // failed checks of its health that make it sick; 0: nobody checks
	clusterID       [16]byte      // proposed for a new cluster
	roster          log.Roster    // the members at the start
}

// A leadership is what the log has reported last.
type leadership struct {
	leader, term uint64
	leading      bool
	lease        time.Duration // until when nobody else can lead
	epoch        log.Epoch     // in force, and applied here
}

// newRole returns the machine of a member that has just started and has recovered the state after the start
// of an epoch. The first step begins its standby phase.
func newRole(cfg roleConfig, epoch log.Epoch) role {
	r := role{cfg: cfg, list: cfg.roster, others: make(map[uint64][]obstacle), lead: leadership{epoch: epoch}, phase: phase{active: true, ended: true, returned: true}}
	if r.away = cfg.away; cfg.strikes > 0 {
		r.fit.sick = errUnchecked
	}
	return r
}

// step tells the machine what has happened, and what the log knows.
func (r *role) step(now time.Duration, view log.View, in input) output {
	r.out, r.view = output{}, view
	switch in := in.(type) {
	case wake:
	case reported:
		r.reported(now, in.change)
	case stopped:
		r.stop(in.err)
	case callbackDone:
		r.callbackDone(now, in)
	case fenceDone:
		r.fenceDone(now, in)
	case machineFailed:
		r.err = in.err
	case expired:
		// The lease may have been renewed since. The ctx is over all the same, so the phase is.
		if r.phase.open() && r.phase.token == in.token {
			r.end(now, ErrLeaseExpired)
		}
	case misuse:
		r.err = in.err
		r.out.do(report(in))
	case unborn:
		r.obstacles.unborn = in.err
	case diskFull:
		r.obstacles.diskFull = in.err
	case diskProbed:
		r.probed(now, in)
	case checked:
		r.checked(now, in.err)
	case heardOf:
		r.said(in.id, in.obstacles)
		r.retryAt = min(r.retryAt, now) // it may be well again
	case become:
		r.wish(now, in.wish)
	case keepAway:
		r.stayAway(now, in.reason, in.wish)
	}
	r.obstruct(now)
	r.reconcile(now)
	r.obstruct(now) // a handover may have begun, or ended
	if yes := r.obstacles.reluctant(); yes != r.reluctant {
		r.reluctant = yes
		r.out.tell(log.Reluctant{Yes: yes})
	}
	return r.out
}

// reported takes note of what the log says.
func (r *role) reported(now time.Duration, change log.Change) {
	l := &r.lead
	switch c := change.(type) {
	case log.Leadership:
		if c.Term != l.term || !c.Leading {
			r.opening = false
		}
		if c.Term != l.term && !r.barred() {
			r.retryAt = min(r.retryAt, now) // what was refused in another term is no reason to wait
		}
		l.leader, l.term, l.leading = c.Leader, c.Term, c.Leading
		if c.Leading {
			r.after = c.After
			if r.ledFirst == 0 {
				r.ledFirst = c.Term
			}
		}
	case log.Settled:
		r.settled = c.Term
	case log.Lease:
		l.lease = c.Until
	case log.EpochStarted:
		l.epoch = c.Epoch
		r.opening = r.opening && !r.owns(l.epoch)
	case log.StartRefused:
		r.opening, r.retryAt = false, now+r.cfg.heartbeat
	case log.TransferAsked:
		if r.handing == nil {
			r.handOver(now, c.By, ErrHandedOver)
		}
	case log.PeerGone:
		r.others[c.ID] = []obstacle{silent(now, "its process has ended")}
	case log.PeerLost:
		r.lostTouch(now, c.ID)
	case log.TransferRefused: // the view says why
	case log.RosterChanged:
		r.list = c.Roster
		maps.DeleteFunc(r.others, func(id uint64, _ []obstacle) bool { _, ok := c.Roster.Known(id); return !ok })
	case log.Problem: // of which the role does not depend
	}
}

// owns reports whether an epoch gives this member the right to be active now, once.
func (r *role) owns(e log.Epoch) bool {
	return r.lead.leading && e.Holder == r.cfg.name && e.Term == r.lead.term && e.Epoch > r.usedEpoch
}

// lost says why an active phase is over, nil while it is not.
func (r *role) lost(now time.Duration) error {
	switch {
	case r.stopped:
		return ErrClosed
	case r.lead.epoch.Epoch != r.phase.token.Epoch:
		return ErrDeposed
	case !r.lead.leading:
		return ErrDeposed
	case now >= r.lead.lease:
		return ErrLeaseExpired
	}
	return nil
}

// reconcile does what the present state asks for.
func (r *role) reconcile(now time.Duration) {
	if r.phase.open() {
		if cause := r.lost(now); cause != nil {
			r.end(now, cause)
		}
	}
	r.pursueFencing(now)
	if r.stopped {
		if !r.phase.ended {
			r.end(now, ErrClosed)
		}
		return
	}
	r.pursueHealth(now)
	r.pursuePreemption(now)
	r.pursueRelief(now)
	r.pursueHandover(now)
	r.pursueWishes(now)
	if r.phase.active && r.phase.over() {
		r.begin(phase{})
	}
	if r.lead.leading && r.handing == nil {
		r.pursueRole(now)
	}
}

// pursueRole makes the leader active, or finds a leader who can be.
func (r *role) pursueRole(now time.Duration) {
	switch {
	case r.phase.open():
	case r.barred():
		// Leading without being able to be active: keep the log alive, and hand leadership on.
		if now >= r.retryAt {
			r.retryAt = now + r.cfg.electionTimeout
			if r.arbitrates() {
				r.retryAt = now + r.cfg.heartbeat // nobody is active before
			}
			r.handOver(now, 0, nil)
			r.pursueHandover(now)
		}
	case r.yields(now):
		r.yielded = r.lead.term
		r.handOver(now, 0, nil)
		r.pursueHandover(now)
	// The first epoch of a term is opened before there is a lease: so it travels with the entry that begins the term, and saves a
	// round. It makes nobody active.
	case r.phase.active, now >= r.lead.lease && r.openedIn == r.lead.term:
	case !r.owns(r.lead.epoch):
		if !r.opening && now >= r.retryAt && r.fenced(now) {
			r.opening, r.openedIn = true, r.lead.term
			r.out.tell(log.StartEpoch{ClusterID: r.cfg.clusterID})
		}
	case now >= r.lead.lease:
	default:
		if !r.phase.ended {
			r.end(now, ErrActivating)
		}
		if r.phase.returned {
			r.usedEpoch = r.lead.epoch.Epoch
			r.begin(phase{active: true, token: fence.Token{Cluster: r.cfg.cluster, Epoch: r.usedEpoch, Holder: r.cfg.name}})
		}
	}
}

// barred reports whether something keeps this member from being active that it cannot change itself.
func (r *role) barred() bool {
	o := &r.obstacles
	return r.arbitrates() ||
		o.stands(ObstacleCallback) || o.stands(ObstacleCoolDown) || o.stands(ObstacleSick) || o.stands(ObstacleAway) || o.stands(ObstacleDiskSlow)
}

// yields reports whether this member, which was sick a moment ago, should offer the role to one that is well, once.
func (r *role) yields(now time.Duration) bool {
	return r.obstacles.stands(ObstacleRecovering) && r.yielded != r.lead.term && r.best(now, 0, true) != 0
}

// begin starts a phase, the callback of the last one having returned.
func (r *role) begin(p phase) {
	r.phase = p
	r.out.do(run{p})
	if p.active {
		r.out.answer(nil, r.wishes...)
		r.wishes = nil
	}
}

// end ends the ctx of the present phase.
func (r *role) end(now time.Duration, cause error) {
	r.phase.ended, r.phase.endedAt = true, now
	r.out.do(end{cause})
	if cause == ErrLeaseExpired {
		r.out.tell(log.Lapsed{})
	}
}

// callbackDone notes that the phase's callback has returned. An OnActive that fails while its role
// lasts gives the role up, and stays away for a while, as ZKFC does.
func (r *role) callbackDone(now time.Duration, done callbackDone) {
	err := r.phase.done(done)
	if err == nil {
		return
	}
	r.err = err
	r.out.do(report{err})
	if r.phase.open() {
		r.cool.again(now, r.cfg.coolDown)
		r.coolErr, r.retryAt = err, now
		r.end(now, err)
	}
}

// stop ends everything for good.
func (r *role) stop(err error) {
	r.stopped, r.err = true, err
	if r.handing != nil {
		r.endHandover(ErrClosed)
	}
	r.out.answer(ErrClosed, r.wishes...)
	r.wishes, r.lead.leading, r.lead.leader = nil, false, 0
}

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
	if r.phase.open() {
		soonest(r.lead.lease)
	}
	if r.handing != nil {
		soonest(r.handing.by)
	}
	if f := &r.fence; f.running && !f.ended {
		soonest(min(f.until, r.lead.lease))
	} else if f.running {
		soonest(f.until + r.cfg.drainTimeout)
	}
	if len(r.wishes) > 0 {
		soonest(r.wishes[0].by)
		soonest(r.wishes[0].bears)
		soonest(r.retryAt)
	}
	if r.lead.leading && !r.phase.open() {
		soonest(r.retryAt)
	}
	if r.higher.id != 0 {
		soonest(r.higher.since + r.cfg.preempt)
	}
	if r.phase.ended && !r.phase.returned {
		soonest(r.phase.endedAt + r.cfg.drainTimeout)
	}
	if r.disk.needed > 0 && !r.disk.writing {
		if r.disk.at > now {
			soonest(r.disk.at)
		} else {
			soonest(now + r.cfg.heartbeat) // it does not answer yet
		}
	}
	for _, o := range r.obstacles.list {
		soonest(o.until)
	}
	return at
}

// observes reports whether this member has no vote, and so never leads.
func (r *role) observes() bool {
	m, ok := r.list.Find(r.cfg.id)
	return ok && m.Kind == log.KindObserver
}

// joins reports whether this member is not on the list yet, or is to become a voter.
func (r *role) joins() bool {
	m, ok := r.list.Known(r.cfg.id)
	return !ok && !r.list.Gone(r.cfg.id) || m.Joining
}

// arbitrates reports whether this member votes and is never active: as it is configured, or as the list says.
func (r *role) arbitrates() bool {
	m, ok := r.list.Find(r.cfg.id)
	return r.cfg.arbiter || ok && m.Kind == log.KindArbiter
}

// nameOf returns the name of a member, "" if it is none.
func (r *role) nameOf(id uint64) string {
	m, _ := r.list.Known(id)
	return m.Name
}

// state is the role as [Status] shows it.
func (r *role) state(now time.Duration) State {
	switch {
	case r.stopped:
		return Failed
	case r.phase.open():
		return Active
	case r.phase.token.Valid(), r.handing != nil:
		return Draining
	case r.joins():
		return Joining
	case r.observes():
		return Observer
	case r.arbitrates():
		return Arbiter
	case r.lead.leading && !r.barred():
		return Activating
	case r.lead.leader != 0:
		return Standby
	default:
		return Electing
	}
}
