package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// An obstacle is an [Obstacle] on the member's clock, as the role machine knows it; a time of 0 is not known.
type obstacle struct {
	kind         ObstacleKind
	text         string
	err          error
	since, until time.Duration
}

// lasts reports whether nobody can say that it will soon be over, so that there is no use in waiting for it.
func (k ObstacleKind) lasts() bool {
	switch k {
	case ObstacleSick, ObstacleAway,
		ObstacleUnborn, ObstacleCallback, ObstacleDiskStalled, ObstacleDiskSlow, ObstacleApplyStalled, ObstacleDiskFull, ObstacleObserver, ObstacleJoining, ObstacleArbiter:
		return true
	}
	return false
}

// bars reports whether a member that has it cannot take the role; else others are preferred to it. What a later version may
// know does not bar.
func (k ObstacleKind) bars() bool {
	switch k {
	case ObstacleSick, ObstacleAway, ObstacleCoolDown,
		ObstacleUnborn, ObstacleCallback, ObstacleHandOver, ObstacleRestart, ObstacleDiskStalled, ObstacleDiskSlow, ObstacleApplyStalled,
		ObstacleLagging, ObstacleLoop, ObstacleSilent, ObstacleObserver, ObstacleJoining, ObstacleArbiter:
		return true
	}
	return false
}

// quiet reports whether it is part of the ordinary course of things, or of what the log has told with what has led to it: it need not tell
// of the obstacle, too.
func (k ObstacleKind) quiet() bool {
	return k == ObstacleHandOver || k == ObstacleRestart || k == ObstacleArbiter || k == ObstacleObserver || k == ObstacleCoolDown
}

// obstacles are those of a member that stand, in the order in which they began.
type obstacles struct {
	list []obstacle

	unborn, diskFull error // as they were told
}

// note says whether an obstacle stands. Its text is made when it begins, and again when there is another error behind it
// or another end. It returns what has changed, nil if nothing has.
func (o *obstacles) note(now time.Duration, kind ObstacleKind, stands bool, until time.Duration, err error, text func() string) action {
	i := slices.IndexFunc(o.list, func(x obstacle) bool { return x.kind == kind })
	switch {
	case !stands && i < 0, stands && i >= 0 && o.list[i].until == until && sameError(o.list[i].err, err):
		return nil
	case !stands:
		o.list = slices.Delete(o.list, i, i+1)
		return cleared{kind}
	case i < 0:
		i = len(o.list)
		o.list = append(o.list, obstacle{kind: kind, since: now})
	}
	x := &o.list[i]
	x.until, x.err, x.text = until, err, text()
	return obstructed{*x}
}

// retell has the text of one made again, if it stands.
func (o *obstacles) retell(kind ObstacleKind) {
	o.list = slices.DeleteFunc(o.list, func(x obstacle) bool { return x.kind == kind })
}

// stands reports whether one of a kind does.
func (o *obstacles) stands(kind ObstacleKind) bool {
	return slices.ContainsFunc(o.list, func(x obstacle) bool { return x.kind == kind })
}

// lasting reports whether one stands that may last.
func (o *obstacles) lasting() bool {
	return slices.ContainsFunc(o.list, func(x obstacle) bool { return x.kind.lasts() })
}

// reluctant reports whether another member had better lead, if there is one: then the others campaign first.
func (o *obstacles) reluctant() bool {
	return slices.ContainsFunc(o.list, func(x obstacle) bool {
		switch x.kind {
		case ObstacleSick, ObstacleAway, ObstacleRecovering, ObstacleCoolDown, ObstacleCallback, ObstacleDiskFull, ObstacleDiskSlow:
			return true
		}
		return false
	})
}

// obstruct looks for what keeps this member from the role, or is about to.
func (r *role) obstruct(now time.Duration) {
	r.probe(now)
	o, v, drain := &r.obstacles, &r.view, r.cfg.drainTimeout
	note := func(kind ObstacleKind, stands bool, until time.Duration, err error, text func() string) {
		if a := o.note(now, kind, stands, until, err, text); a != nil {
			r.out.do(a)
		}
	}
	words := func(s string) func() string { return func() string { return s } }
	errs := func(err error) func() string { return func() string { return firstLine(err) } }
	note(ObstacleUnborn, o.unborn != nil, 0, o.unborn, errs(o.unborn))
	_, listed := r.list.Known(r.cfg.id)
	note(ObstacleJoining, !listed, 0, nil, words("it waits for its cluster to add it: AddMember or ReplaceMember, called on one of the members"))
	note(ObstacleObserver, r.observes(), 0, nil, words("it has no vote"))
	note(ObstacleArbiter, r.arbitrates(), 0, nil, words("it votes, and is never active"))
	note(ObstacleCallback, r.phase.hung(now, drain) || r.fence.hung(now, drain), 0, nil, func() string {
		hung := "OnFence"
		if r.phase.hung(now, drain) {
			hung = r.phase.callback()
		}
		return fmt.Sprintf("%s has not returned, %v after its ctx had ended", hung, drain)
	})
	note(ObstacleSick, r.fit.sick != nil, 0, r.fit.sick, errs(r.fit.sick))
	note(ObstacleAway, r.away != "", 0, nil, words(r.away))
	note(ObstacleRecovering, r.fit.sick == nil && now < r.fit.rest.until, r.fit.rest.until, nil, func() string {
		return fmt.Sprintf("its health checks failed until a moment ago; it leaves the role to others for %v", r.fit.rest.length)
	})
	note(ObstacleCoolDown, now < r.cool.until, r.cool.until, r.coolErr, errs(r.coolErr))
	until := time.Duration(0)
	if r.handing != nil {
		until = r.handing.by
	}
	note(ObstacleHandOver, r.handing != nil, until, nil, words("the role is being handed over"))
	note(ObstacleRestart, now < v.Guard, v.Guard, nil, words("it has just started, and keeps what it may have promised before"))
	note(ObstacleDiskStalled, v.DiskSince != 0, 0, nil, words("the disk does not answer"))
	note(ObstacleDiskSlow, r.disk.needed > 0 && v.DiskSince == 0, 0, nil, words("the disk did not answer until a moment ago, and has not been fast again often enough"))
	note(ObstacleApplyStalled, v.ApplySince != 0, 0, nil, words("the state machine does not return from Apply"))
	note(ObstacleLagging, v.Behind > maxLag, 0, nil, func() string { return fmt.Sprintf("%d entries are not applied", v.Behind) })
	note(ObstacleStarved, v.Late != 0, v.Hold, nil, func() string {
		return fmt.Sprintf("it does not get to run in time: it was woken up to %v late", v.Late.Round(time.Millisecond))
	})
	note(ObstacleDiskFull, o.diskFull != nil, 0, o.diskFull, errs(o.diskFull))
}

// maxLag is how many raft entries a member may lack that takes the role over: few, since nothing can be appended
// while it catches up.
const maxLag = 1024

// firstLine is what an error says, without a stack.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(line, "baton: ")
}
