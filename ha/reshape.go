package ha

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file is how the leader makes a change of the members: one at a time, planned from what it knows at the moment (plan.go),
// asked of the log, and planned again if something has come between.

// look asks the loop what it knows; the answer comes on a channel of size 1.
type look struct{ reply chan ground }

// Mail implements [log.Mail].
func (look) Mail() {}

// show answers a look, on the loop.
func (l look) show(n *Node, now time.Duration, view log.View) {
	l.reply <- ground{
		list: n.roster(), view: view, leading: n.role.lead.leading, self: n.self.ID, now: now, heartbeat: n.cfg.Heartbeat,
	}
}

// ground returns what is known at the moment. It fails with errMoved if this member does not lead.
func (n *Node) ground(ctx context.Context) (ground, error) {
	l := look{make(chan ground, 1)}
	n.log.Post(l)
	select {
	case g := <-l.reply:
		if !g.leading {
			return g, errMoved
		}
		g.said = n.elsewhere.sayings()
		return g, nil
	case <-ctx.Done():
		return ground{}, context.Cause(ctx)
	case <-n.ended:
		return ground{}, errMoved
	}
}

// reshape makes a change that is asked for, if this member leads. What is returned is nil, a *[MembershipError], errMoved,
// [ErrReentrant], or leaves open what has become of it.
func (n *Node) reshape(ctx context.Context, q wire.Change) error {
	var h transport.Hello
	var failure error
	switch q.Op {
	case wire.OpReplace:
		q.Addr = n.roster().addrOf(q.Name)
		fallthrough
	case wire.OpAdd:
		h, failure = n.newcomer(ctx, q)
	}
	return n.reshapeBy(ctx, inWords(q), func(g ground) (log.MemberChange, error) {
		switch q.Op {
		case wire.OpAdd:
			return g.add(q, h, failure)
		case wire.OpRemove:
			return g.remove(q.Name)
		case wire.OpPromote:
			return g.promote(q.Name)
		case wire.OpDemote:
			return g.demote(q.Name)
		case wire.OpAddr:
			return g.changeAddr(q.Name, q.Addr)
		case wire.OpPriority:
			return g.setPriority(q.Name, int(q.Priority))
		case wire.OpAdvertise:
			return g.advertise(q.Name, q.Advertise)
		case wire.OpReplace:
			return g.replace(q.Name, h, failure)
		}
		return log.MemberChange{}, refuse(ErrBadChange, "this member does not know how")
	})
}

// newcomer asks who waits at an address to be added.
func (n *Node) newcomer(ctx context.Context, q wire.Change) (transport.Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DialTimeout+probeTimeout)
	defer cancel()
	return n.net.Probe(ctx, transport.Peer{Name: q.Name, Addr: q.Addr})
}

// reshapeBy makes a change that is planned by plan, in words what. A change that is nothing is made already.
func (n *Node) reshapeBy(ctx context.Context, what string, plan func(ground) (log.MemberChange, error)) error {
	select {
	case n.reshaping <- struct{}{}: // one at a time
		defer func() { <-n.reshaping }()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-n.ended:
		return errMoved
	}
	patience := n.clock() + 2*n.cfg.ElectionTimeout
	for {
		err := n.reshapeOnce(ctx, plan)
		var refused *MembershipError
		if errors.As(err, &refused) {
			refused.Change = what
		}
		if err == nil || !passes(err) || n.clock() >= patience {
			return err
		}
		pause := time.NewTimer(n.cfg.Heartbeat)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return err // what stands in the way says more
		case <-n.ended:
			return errMoved
		}
		pause.Stop()
	}
}

// passes reports whether what stands in the way of a change may be over in a moment: a change that is under way, and what a leader knows
// that was just elected and has not heard everybody yet.
func passes(err error) bool {
	return errors.Is(err, ErrChanging) || errors.Is(err, ErrOutdated) || errors.Is(err, ErrQuorum) || errors.Is(err, ErrNotCaughtUp)
}

// reshapeOnce plans a change and makes it. Before the first one that a cluster makes its list is completed by the configuration: no
// change may overtake that, since afterwards nobody could tell what was configured from what was asked for.
func (n *Node) reshapeOnce(ctx context.Context, plan func(ground) (log.MemberChange, error)) error {
	g, err := n.free(ctx)
	if err != nil {
		return err
	}
	if words := firstWords(g.list); len(words) > 0 {
		if err := n.make(ctx, g, log.MemberChange{Put: words}); err != nil && !errors.Is(err, ErrBadChange) {
			return err
		}
		if g, err = n.free(ctx); err != nil {
			return err
		}
	}
	change, err := plan(g)
	switch {
	case err == errHandOver:
		if err := n.become(ctx, Standby, CauseMembers); err != nil {
			return handOverRefused(err)
		}
		return errMoved
	case err != nil, len(change.Put)+len(change.Remove) == 0:
		return err
	}
	return n.make(ctx, g, change)
}

// free is ground where no change is under way.
func (n *Node) free(ctx context.Context) (ground, error) {
	g, err := n.ground(ctx)
	if err == nil && g.list.Joint() {
		err = refuse(ErrChanging, "%s", g.unfinished())
	}
	return g, err
}

// make makes a change.
func (n *Node) make(ctx context.Context, g ground, change log.MemberChange) error {
	g.complete(&change)
	version, err := n.log.Reconfigure(ctx, change)
	switch {
	case err == nil:
		return n.settled(ctx, version)
	case errors.Is(err, log.ErrNotLeader):
		return errMoved
	case errors.Is(err, log.ErrNotYetSettled):
		return refuse(ErrChanging, "%s", firstLine(err))
	}
	for _, reason := range []error{ErrOutdated, ErrChanging, ErrBadChange} {
		if errors.Is(err, reason) {
			return refuse(reason, "%s", firstLine(err))
		}
	}
	return err
}

// handOverRefused is why a leader that was to hand over first has not.
func handOverRefused(err error) error {
	for _, reason := range []error{ErrNoSuccessor, ErrNotHandedOver} {
		if errors.Is(err, reason) {
			return refuse(reason, "it leads, and must hand over first: %s", firstLine(err))
		}
	}
	return err // the end of ctx or of this member, or a callback calls
}

// settled waits until both majorities have agreed to a change that is in force.
func (n *Node) settled(ctx context.Context, version uint64) error {
	for {
		changed := *n.changed.Load()
		if r := n.roster(); r.Version > version || r.Version == version && !r.Joint() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: it is made, and the majority of before has not agreed to its end: %w", ErrUnknown, context.Cause(ctx))
		case <-n.ended:
			return fmt.Errorf("%w: %w", ErrUnknown, ErrClosed)
		}
	}
}
