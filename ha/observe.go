package ha

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// This file is what the loop does with a node: it steps the role, carries out what that wants, and shows what has become of it.

// A tenure is one time of being Active. Its lease is extended by the loop and watched by a timer
// beside it, so that a loop that hangs cannot keep an Active alive. The loop makes a new timer when it extends the lease: one that rang
// would wake a process that has nothing to do, to find that it need not have.
type tenure struct {
	token  fence.Token
	ctx    context.Context // OnActive's, which ends with it
	until  atomic.Int64    // end of the lease on the node's clock
	cancel context.CancelCauseFunc
	timer  atomic.Pointer[time.Timer]
	rings  atomic.Int64 // when that does, on the node's clock
}

// observer is the node as the log steps it, on the log's loop.
type observer struct{ *Node }

// Changed implements [log.Observer].
func (n observer) Changed(now time.Duration, view log.View, change log.Change) []log.Event {
	if c, ok := change.(log.RosterChanged); ok {
		n.enroll(c.Roster)
	}
	events := n.step(now, view, reported{change})
	switch c := change.(type) {
	case log.Lease:
		n.leaseEnd.Store(int64(c.Until))
		if t := n.tenure.Load(); t != nil {
			if t.until.Store(int64(c.Until)); c.Until > 0 && n.wantsTimer(t, now) {
				n.watch(t)
			}
		}
	case log.EpochStarted:
		poke(n.founded)
	case log.Problem:
		n.problem(n.roster().nameOf(c.Peer), c.Kind, c.Err)
	}
	n.show(now)
	return events
}

// Posted implements [log.Observer].
func (n observer) Posted(now time.Duration, view log.View, mail log.Mail) []log.Event {
	events := n.step(now, view, inputOf(mail))
	n.show(now)
	switch m := mail.(type) {
	case look:
		m.show(n.Node, now, view)
	case log.Stopped:
		close(n.ended) // who waits for it finds the last status
	}
	return events
}

// step steps the role, and carries out what it wants.
func (n observer) step(now time.Duration, view log.View, in input) []log.Event {
	n.pulse.Store(int64(now))
	out := n.role.step(now, view, in)
	for _, a := range out.actions {
		if a, ok := a.(answer); ok {
			n.answers = append(n.answers, a) // who is answered finds the status that goes with it
			continue
		}
		n.do(now, a)
	}
	n.tell(now, in, out)
	return out.events
}

// show sees to it that the role is woken when it wants to be, and that everyone sees what has become of it.
func (n observer) show(now time.Duration) {
	if at := n.role.deadline(now); at != n.alarmAt {
		n.alarmAt = at
		if n.alarm != nil {
			n.alarm.Stop()
		}
		if at != 0 {
			n.alarm = time.AfterFunc(at-now, func() { n.log.Post(wake{}) })
		}
	}
	n.publish(now)
	for _, a := range n.answers {
		n.do(now, a)
	}
	clear(n.answers)
	n.answers = n.answers[:0]
}

// inputOf is what was posted, as the role machine is told it.
func inputOf(mail log.Mail) input {
	switch m := mail.(type) {
	case input:
		return m
	case log.MachineFailed:
		return machineFailed{m.Err}
	case log.NoRoom:
		return diskFull{m.Err}
	case log.Stopped:
		return stopped{m.Err, m.Unknown}
	case log.Acknowledged:
		return acknowledged{m}
	}
	return wake{}
}

// do carries out what the role machine wants.
func (n *Node) do(now time.Duration, a action) {
	switch a := a.(type) {
	case run:
		n.run(a.phase)
	case end:
		t := n.tenure.Swap(nil)
		if t != nil {
			t.until.Store(0) // for who has it already
			t.unwatch()
		}
		n.cancel(a.cause)
	case runFence:
		n.runFence(a.previous)
	case endFence:
		n.cancelFence(a.cause)
	case answer:
		err := a.err
		if len(a.why) > 0 {
			err = &ObstacleError{Err: a.err, Obstacles: onWall(a.why, now)}
		}
		a.wish.reply <- err // there is room: it is answered once
	case obstructed:
		n.condition(conditionOf(a.obstacle, now))
	case cleared:
		n.conditionOver(conditionKey{kind: string(a.kind), obstacle: true})
	case probeDisk:
		n.probe()
	}
}

// run starts the callback of a phase.
func (n *Node) run(p phase) {
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), nodeKey{}, n))
	n.cancel = cancel
	call := func() error { return nil }
	switch {
	case p.active:
		t := &tenure{token: p.token, ctx: ctx, cancel: cancel}
		t.until.Store(int64(n.role.lead.lease))
		n.watch(t)
		n.tenure.Store(t)
		if n.gaveUp.Load() {
			cancel(ErrClosed)
		}
		if n.cfg.OnActive != nil {
			call = func() error { return n.cfg.OnActive(ctx, p.token) }
		}
	case n.cfg.OnStandby != nil:
		call = func() error { return n.cfg.OnStandby(ctx) }
	}
	var done callbackDone
	over := make(chan struct{})
	if p.active {
		n.callbacks.Go(func() { n.watchStuck(ctx, over) })
	}
	n.callbacks.Add(1)
	n.calls.Go(p.callback(), func() error { done = returned(call()); return nil }, func(err error) {
		if err != nil {
			done = callbackDone{err: err}
		}
		close(over)
		n.log.Post(done)
		n.callbacks.Done()
	})
}

// left is how much of the lease is left at a time on the lease's clock, less what that clock may have missed.
func (n *Node) left(t *tenure, now time.Duration) time.Duration {
	return n.leftUntil(t.until.Load(), now, wallTime())
}

func (n *Node) leftUntil(end int64, now, wall time.Duration) time.Duration {
	return time.Duration(end) - now - n.log.Doubt(now, wall)
}

// holds reports whether the lease has not ended at this moment, for who asks that with each read, or each token.
func (n *Node) holds(t *tenure) bool {
	now, wall := clocks.look()
	return n.leftUntil(t.until.Load(), now, wall) > 0
}

// watch has a tenure end when its lease will. Where two call it at a time two timers may run, until one of them rings.
func (n *Node) watch(t *tenure) {
	t.unwatch()
	now := n.clock()
	left := n.left(t, now)
	t.rings.Store(int64(now + left))
	t.timer.Store(time.AfterFunc(left, func() { n.watchLease(t) }))
}

// wantsTimer reports whether a lease that was extended wants another timer. One that rings too early looks again, and a new one wakes a thread of a process that has
// nothing to do; so one that rings by the new end stays, until it might ring before the next extension or two.
func (n *Node) wantsTimer(t *tenure, now time.Duration) bool {
	rings := t.rings.Load()
	return rings > t.until.Load() || time.Duration(rings)-now < n.cfg.ElectionTimeout/2
}

func (t *tenure) unwatch() {
	if timer := t.timer.Swap(nil); timer != nil {
		timer.Stop()
	}
}

// watchLease ends the tenure when its lease has ended, and else sleeps until it will.
func (n *Node) watchLease(t *tenure) {
	if n.left(t, n.clock()) > 0 {
		n.watch(t)
		return
	}
	t.cancel(ErrLeaseExpired)
	n.wakeWatchers()
	n.log.Post(expired{t.token})
}

// publish lets everyone see the present status.
func (n *Node) publish(now time.Duration) {
	r, list := &n.role, n.roster()
	s := Status{Name: n.cfg.Name, State: r.state(now), Epoch: r.lead.epoch.Epoch, Leader: list.nameOf(r.lead.leader), Err: r.err}
	if s.State == Active {
		s.Token = r.phase.token
	}
	// A holder that leads in another term has not become active in it yet, as far as is known here.
	if e := r.lead.epoch; e.Holder != "" && e.Holder == s.Leader && e.Term == r.lead.term && (s.Leader != n.cfg.Name || s.State == Active) {
		s.Active, s.ActiveAddr = s.Leader, list.addrOf(s.Leader)
		holder, _ := list.Named(s.Leader)
		s.ActiveAdvertise = holder.Advertise
	}
	if old := n.status.Load(); old != nil && old.same(s) {
		return
	}
	n.status.Store(&s)
	n.wakeWatchers()
}
