package ha

import (
	"maps"
	"slices"

	"github.com/baton-ha/baton/transport"
)

// This file finds members that are not where the list has them. One that was started at another address has the leader write that into the list (move.go). But where it
// is needed to have a leader, it must be found before: after all members have moved, say. So who has nobody to follow asks at the addresses
// of its own configuration, and at those that others have said to be theirs, and talks to a member where it has answered. What is said is only asked at: who
// answers is known by the handshake.

// A sighting is of a member that is not where the list has it.
type sighting struct{ listed, at string }

// sayings returns where members say that they are that are not where the list has them, or this member's configuration if the list does not say it.
func (e *elsewhere) sayings() map[uint64]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.said)
}

// overhear takes note of where a member that is listed says that it is.
func (n *Node) overhear(h transport.Hello) {
	r := n.roster()
	m, listed := r.Known(h.ID)
	i := slices.IndexFunc(h.List, func(p transport.Peer) bool { return p.ID == h.ID })
	if !listed || i < 0 {
		return
	}
	at := h.List[i].Addr
	if _, err := transport.CheckAddr(at, false); err != nil {
		return
	}
	e := &n.elsewhere
	e.mu.Lock()
	maps.DeleteFunc(e.said, func(id uint64, _ string) bool { _, ok := r.Known(id); return !ok })
	maps.DeleteFunc(e.found, func(id uint64, _ sighting) bool { _, ok := r.Known(id); return !ok })
	_, found := e.found[h.ID]
	back := sameAddr(at, r.addr(m))
	if back {
		delete(e.said, h.ID)
		delete(e.found, h.ID)
	} else {
		if e.said == nil {
			e.said = make(map[uint64]string)
		}
		e.said[h.ID] = at
	}
	e.mu.Unlock()
	if found && back {
		poke(n.relisted)
	}
}

// sight takes note of where members have answered, by id. Who was found where the list has him is there, wherever else he seems to be, as a copy of
// his directory may.
func (n *Node) sight(answers map[uint64][]string) {
	r := n.roster()
	e := &n.elsewhere
	e.mu.Lock()
	news := false
	for id, addrs := range answers {
		m, listed := r.Known(id)
		was := e.found[id]
		is := sighting{listed: r.addr(m), at: addrs[0]}
		switch {
		case !listed:
		case slices.ContainsFunc(addrs, func(a string) bool { return sameAddr(a, is.listed) }):
			delete(e.found, id)
			news = news || was.at != ""
		case was.listed == is.listed && slices.Contains(addrs, was.at): // still
		default:
			if e.found == nil {
				e.found = make(map[uint64]sighting)
			}
			e.found[id] = is
			news = true
		}
	}
	e.mu.Unlock()
	if news {
		poke(n.relisted)
	}
}
