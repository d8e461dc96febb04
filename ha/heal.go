package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file is how a member takes the place of what it was: because somebody asks for it, or, with Config.Heal, by itself. Either way the new directory is listed
// beside the old one, under the same name and as one that does not vote, and gets the log; once it has caught up, one change
// takes the old one out and gives the new one its vote (promote in plan.go, by whoever leads then).
//
// Invariant: nobody votes in place of another before it has what a majority has agreed on, and before that majority has agreed
// that the other votes no more.

// ReplaceMember lets a member come back whose directory is lost: its process runs with an empty directory and Config.Join, under its name and at its address,
// where the leader asks it who it is. It returns once the new directory is in the list, beside the old one; it takes the old one's place,
// kind and priority in one change as soon as it has caught up, whoever leads then. From then on the old directory is of no use: a member
// that has it stops with [ErrRemoved]. What is said of [Node.AddMember] holds for it, too.
func (n *Node) ReplaceMember(ctx context.Context, name string) error {
	return n.change(ctx, wire.Change{Op: wire.OpReplace, Name: name})
}

// replace plans a ReplaceMember. h is what was said by who is at the member's address, or failure why nobody was heard.
func (g ground) replace(name string, h transport.Hello, failure error) (c log.MemberChange, err error) {
	m, err := g.named(name)
	switch {
	case err != nil:
		return c, err
	case m.ID == g.self:
		return c, refuse(ErrBadChange, "it leads, so its directory is well")
	case failure != nil:
		return c, refuse(ErrNewcomer, "%s", firstLine(failure))
	case h.ID == m.ID && m.Joining:
		return c, nil // it is on its way
	case !h.Joining:
		return c, refuse(ErrNewcomer, "%q at %s is not new: its directory must be empty, and its configuration have Join", name, g.list.addr(m))
	case g.list.Gone(h.ID):
		return c, refuse(ErrNewcomer, "the directory at %s is that of a member that was removed", g.list.addr(m))
	}
	next := log.Member{ID: h.ID, Name: name, Addr: m.Addr, Advertise: m.Advertise, Incarnation: h.Incarnation, Kind: log.KindObserver, Priority: m.Priority}
	if kind := wanted(m); kind.Votes() {
		next.Joining, next.Becomes = true, kind
	}
	c.Put = []log.Member{next}
	if !m.Kind.Votes() { // it counts nowhere, so there is nothing to wait for
		c.Remove = []uint64{m.ID}
	}
	return c, nil
}

// heal plans the replacement of a member that nobody has asked for. h is what was said at its address. lost says that nobody who is there has heard of what it was for so long that it
// counts as dead, and that there is no connection with it. The error says what is in the way.
func (g ground) heal(h transport.Hello, lost bool) (c log.MemberChange, err error) {
	m, err := g.named(h.Name)
	if err != nil || h.ID == m.ID {
		return c, err
	}
	for _, o := range g.list.Members {
		if o.Joining && o.Name != h.Name {
			return c, refuse(ErrChanging, "%q is still on its way", o.Name)
		}
		if o.Name == h.Name && g.hears(o.ID) {
			lost = false
		}
	}
	if !lost {
		return c, refuse(ErrBadChange, "what it was may still run")
	}
	well, voters := 0, g.list.Voters()
	for _, id := range voters {
		if o, _ := g.list.Find(id); o.Name != h.Name && g.missing(id, keepsUp) == "" {
			well++
		}
	}
	if well <= len(voters)/2 {
		return c, refuse(ErrQuorum, "without it %d of %d voters are well", well, len(voters))
	}
	return g.replace(h.Name, h, nil)
}

// hears reports whether this leader has been answered by a member lately.
func (g ground) hears(id uint64) bool {
	return slices.ContainsFunc(slices.Concat(g.view.Peers, g.view.Others), func(p log.PeerView) bool {
		return p.ID == id && p.Heard != 0 && p.Heard > g.now-deadBeats*g.heartbeat
	})
}

// deadBeats is how many heartbeats in a row a member that is replaced by itself has answered none of, at least.
const deadBeats = 3 * silentBeats

// problemHeal is the kind of problem that a member waits to take the place of what it was, and why it does not get it yet.
const problemHeal = "heal"

// mend lets members that wait for it take the places of what they were, as long as this member leads.
func (n *Node) mend(ctx context.Context) {
	told := make(map[string]bool)
	look := moment.NewTicker(n.seekPause())
	defer look.Stop()
	for {
		waiting := make(map[string]bool)
		for _, w := range n.expected() {
			name := w.hello.Name
			if !w.hello.Heal || n.Status().Leader != n.cfg.Name {
				continue
			}
			err := n.mendOne(ctx, name)
			if waiting[name] = err != nil; err != nil {
				n.problem(name, problemHeal, err)
			}
		}
		for name := range told {
			if !waiting[name] {
				n.problem(name, problemHeal, nil)
			}
		}
		told = waiting
		select {
		case <-look.C:
		case <-n.arrived:
		case <-ctx.Done():
			return
		}
	}
}

// mendOne lets one member take the place of what it was. An error says what is in the way, and may be over soon.
func (n *Node) mendOne(ctx context.Context, name string) error {
	addr := n.roster().addrOf(name)
	if addr == "" {
		return nil // nobody's name: somebody has to add it
	}
	what := fmt.Sprintf("heal member %q", name)
	h, failure := n.newcomer(ctx, wire.Change{Name: name, Addr: addr})
	switch {
	case failure != nil:
		return &MembershipError{Change: what, Reason: ErrNewcomer, Detail: fmt.Sprintf("the one that waits does not answer at %s: %s", addr, firstLine(failure))}
	case !h.Joining || !h.Heal:
		return nil // it is another that waits, and this one has its directory
	}
	begins := false
	err := n.reshapeBy(ctx, what, func(g ground) (c log.MemberChange, err error) {
		c, err = g.heal(h, n.lostSight(name))
		begins = len(c.Put) > 0
		return c, err
	})
	switch {
	case errors.Is(err, errMoved):
		return nil
	case err == nil && begins:
		n.cfg.Logger.Warn("a member takes the place of what it was, whose directory is lost", "member", n.cfg.Name, "replaced", name, "incarnation", h.Incarnation)
	}
	return err
}

// lostSight reports whether nothing has been heard of a member for so long that it counts as dead, and nothing connects it with this one.
func (n *Node) lostSight(name string) bool {
	var s MemberStatus
	s.Name = name
	if n.hearsay.tell(&s, n.clock()); s.Liveness != Dead && s.Liveness != Left {
		return false
	}
	return !slices.ContainsFunc(n.net.Status(), func(p transport.PeerStatus) bool {
		return p.Name == name && (p.Control || p.Bulk || p.Inbound > 0)
	})
}
