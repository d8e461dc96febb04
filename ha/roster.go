package ha

import (
	"context"
	"slices"
	"strings"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file lets a member follow the list of the members, which is replicated state: whoever looks for a member finds it in the
// list that is in force here, and whom we talk to follows from it.

// A roster is the list of the members that is in force on this member, with what is needed to reach them. It is a value that
// does not change.
type roster struct {
	log.Roster
	hints []Member // of Config.Members: where members are that the list has no addresses of
}

// roster returns the list that is in force here. It never blocks.
func (n *Node) roster() *roster { return n.listed.Load() }

// enroll takes over a list, on the log's loop. What takes time follows in followRoster.
func (n *Node) enroll(list log.Roster) {
	if before := n.roster(); before != nil {
		n.tellMembers(&before.Roster, &list)
	}
	n.listed.Store(&roster{Roster: list, hints: n.cfg.Members})
	poke(n.relisted)
	n.wakeWatchers()
	if list.Left(n.self.ID) {
		n.log.Fail(ErrRemoved)
	}
}

// addr is where a member is reached: as the list says or, as long as it says nothing, as this member is configured.
func (r *roster) addr(m log.Member) string {
	if m.Addr != "" {
		return m.Addr
	}
	for _, h := range r.hints {
		if h.Name == m.Name {
			return h.Addr
		}
	}
	return ""
}

// nameOf returns the name of the member that the log knows by an id, "" if there is none.
func (r *roster) nameOf(id uint64) string {
	m, _ := r.Known(id)
	return m.Name
}

// addrOf returns where the member of a name is reached, "" if there is none.
func (r *roster) addrOf(name string) string {
	m, _ := r.Named(name)
	return r.addr(m)
}

// has reports whether there is a member of a name, or who was and still votes.
func (r *roster) has(name string) bool {
	return slices.ContainsFunc(slices.Concat(r.Members, r.Outgoing), func(m log.Member) bool { return m.Name == name })
}

// all returns the members by name. Of two of one name, one of which takes the place of the other, it is the new one.
func (r *roster) all() []log.Member {
	var all []log.Member
	for _, m := range r.Members {
		if newest, _ := r.Named(m.Name); newest.ID == m.ID {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b log.Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// peers returns those that the member of an id talks to: all others, and who still votes until a change has ended.
func (r *roster) peers(self transport.Peer) []transport.Peer {
	var peers []transport.Peer
	names := map[string]bool{self.Name: true}
	for _, m := range slices.Concat(r.all(), r.Outgoing) {
		if addr := r.addr(m); addr != "" && m.ID != self.ID && !names[m.Name] {
			names[m.Name] = true
			peers = append(peers, transport.Peer{ID: m.ID, Name: m.Name, Addr: addr})
		}
	}
	return peers
}

// followRoster lets what is beside the loop follow the list until ctx ends, or the role has for good: the transport's peers, to
// whom this member speaks, and what is said of those who have left.
func (n *Node) followRoster(ctx context.Context) {
	speaking := make(map[string]context.CancelFunc)
	for {
		peers, err := n.setPeers()
		if err != nil && !n.hasEnded() {
			n.problem("", problemPeers, err)
		} else {
			n.problem("", problemPeers, nil)
		}
		n.checkKind(n.roster())
		present := make(map[string]bool)
		for _, p := range peers {
			present[p.Name] = true
			if speaking[p.Name] == nil {
				speech, hush := context.WithCancel(ctx)
				speaking[p.Name] = hush
				n.speakers.Go(func() { n.speak(speech, p.Name) })
			}
		}
		for name, hush := range speaking {
			if !present[name] {
				hush()
				delete(speaking, name)
				n.hearsay.forget(name)
				n.forgetProblems(name)
			}
		}
		select {
		case <-n.relisted:
		case <-n.ended:
			return // who speaks has a last word to say
		case <-ctx.Done():
			return
		}
	}
}
