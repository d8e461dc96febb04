package ha

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/transport"
)

// This file is about members that come to a cluster which is there, and about those that come back to one that has changed.
//
// A member that joins begins with an empty directory and with nobody: it has an incarnation, and a raft id that follows from that. It asks whomever it is
// configured with who they are, so that they know of it, and answers who asks. Once the cluster's list has it, the others dial it. They
// say in their hello what the list is, so it knows whom to answer before it has the first entry of the log.
//
// A member that was away while everybody else moved finds the others in the same way: whoever has a later list with it in it is believed, as to
// where the others are. What counts in raft is only what is committed.

// ErrRemoved is the error of a member that the cluster has removed, or replaced: its directory is of no use any more. It learns it from the log, or from the
// others when it comes back. Status has it, and Close returns it.
var ErrRemoved = errors.New("baton: this member was removed from its cluster")

// memberID derives the id by which raft knows a member from its name, so that nobody has to give
// numbers: FNV-1a of 64 bits. Raft reserves 0 and the two highest.
func memberID(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	id := h.Sum64()
	if id == 0 || id >= math.MaxUint64-1 {
		id = 1
	}
	return id
}

// memberIDOf derives the raft id of a member that was not on the first list of its cluster: of its name and its directory, so that no
// directory has the id of another.
func memberIDOf(name string, incarnation uint64) uint64 {
	return memberID(fmt.Sprintf("%s\x00%016x", name, incarnation))
}

// elsewhere is what this member knows of where others are beside the list that is in force here.
type elsewhere struct {
	mu      sync.Mutex // guards what follows, and that the transport is told of the latest
	version uint64     // of list
	list    []transport.Peer
	waiting map[string]newcomer // by name

	said  map[uint64]string   // where members say that they are that the list has elsewhere, by id
	found map[uint64]sighting // where they were found, by id
}

// A newcomer is a member that waits to be added, and has said so.
type newcomer struct {
	hello transport.Hello
	at    time.Duration // when it did so last
}

// sayList says whether this member is on its list of the members, and what that is.
func (n *Node) sayList(h *transport.Hello) {
	r := n.roster()
	_, listed := r.Known(n.self.ID)
	h.Joining = !listed && !r.Gone(n.self.ID)
	h.Heal = h.Joining && n.cfg.Heal
	h.Roster = r.Version
	for _, m := range slices.Concat(r.all(), r.Outgoing) {
		addr := r.addr(m)
		if m.ID == n.self.ID {
			addr = n.self.Addr // the list may not have it yet
		}
		if addr != "" && !slices.ContainsFunc(h.List, func(p transport.Peer) bool { return p.ID == m.ID }) {
			h.List = append(h.List, transport.Peer{ID: m.ID, Name: m.Name, Addr: addr})
		}
	}
}

// believe takes note of a list of the members that another has, and reports whether it is later than the one that is in force here. If this member is
// on it, it says from now on where the others are, until the log does.
func (n *Node) believe(h transport.Hello) (later bool) {
	if h.Roster <= n.roster().Version {
		return false
	}
	e := &n.elsewhere
	e.mu.Lock()
	news := h.Roster > e.version && slices.ContainsFunc(h.List, func(p transport.Peer) bool { return p.ID == n.self.ID })
	if news {
		e.version, e.list = h.Roster, h.List
	}
	e.mu.Unlock()
	if news {
		if _, err := n.setPeers(); err != nil {
			n.cfg.Logger.Warn("another member's list of the members is of no use", "member", n.cfg.Name, "from", h.Name, "err", err)
		}
	}
	return true
}

// setPeers tells the transport whom this member talks to, and returns them.
func (n *Node) setPeers() ([]transport.Peer, error) {
	n.elsewhere.mu.Lock()
	defer n.elsewhere.mu.Unlock()
	peers := n.peersLocked()
	return peers, n.net.SetPeers(peers)
}

// peersLocked returns whom this member talks to. The caller has elsewhere.mu.
func (n *Node) peersLocked() []transport.Peer {
	e, r := &n.elsewhere, n.roster()
	peers := r.peers(n.self)
	if e.version > r.Version {
		peers = nil
		for _, p := range e.list { // of two of one name the newer one is listed first
			if p.Name != n.self.Name && !slices.ContainsFunc(peers, func(q transport.Peer) bool { return q.Name == p.Name }) {
				peers = append(peers, p)
			}
		}
	}
	for i, p := range peers {
		if f, ok := e.found[p.ID]; ok && sameAddr(f.listed, p.Addr) { // else the list has learnt it
			peers[i].Addr = f.at
		}
	}
	return peers
}

// expect takes note of a member that waits to be added.
func (n *Node) expect(h transport.Hello) {
	e := &n.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == nil {
		e.waiting = make(map[string]newcomer)
	}
	if _, ok := e.waiting[h.Name]; !ok && len(e.waiting) >= maxWaiting {
		return
	}
	e.waiting[h.Name] = newcomer{h, n.clock()}
	if h.Heal {
		poke(n.arrived)
	}
}

// maxWaiting bounds the newcomers that are remembered.
const maxWaiting = 64

// expected returns the newcomers that have said lately that they wait.
func (n *Node) expected() (all []newcomer) {
	e := &n.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	now := n.clock()
	for name, w := range e.waiting {
		if now-w.at > 4*n.seekPause() {
			delete(e.waiting, name)
			continue
		}
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b newcomer) int { return int(a.at - b.at) })
	return all
}

// seekPause is the pause between two rounds of seeking.
func (n *Node) seekPause() time.Duration { return max(n.cfg.ElectionTimeout/2, 100*time.Millisecond) }

// seek asks those of the configuration, and of the latest list, who they are, as long as this member has nobody to follow. Who answers says what the
// list of the members is, knows of this one afterwards, or says that it has been removed.
func (n *Node) seek(ctx context.Context) {
	look := moment.NewTicker(n.seekPause())
	defer look.Stop()
	for {
		if n.astray() {
			n.askAround(ctx)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// astray reports whether this member has nobody to follow.
func (n *Node) astray() bool {
	if _, unborn := n.birth.says(); unborn {
		return false // it asks anyway
	}
	return n.Status().Leader == ""
}

// askAround asks everybody once, and waits for the answers.
func (n *Node) askAround(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var asked sync.WaitGroup
	var mu sync.Mutex // guards answers
	answers := make(map[uint64][]string)
	for _, p := range n.acquaintances() {
		asked.Go(func() {
			h, err := n.net.Probe(ctx, p) // what it says has been admitted already
			var refused *transport.RefusedError
			switch {
			case err == nil:
				mu.Lock()
				answers[h.ID] = append(answers[h.ID], p.Addr)
				mu.Unlock()
			case errors.As(err, &refused):
				n.refused(p.Name, refused)
			}
		})
	}
	asked.Wait()
	n.sight(answers)
}

// acquaintances are those at whose addresses somebody may be, whoever that is by now.
func (n *Node) acquaintances() (all []transport.Peer) {
	e := &n.elsewhere
	e.mu.Lock()
	list := slices.Clone(e.list)
	r := n.roster()
	for id, addr := range e.said {
		if m, ok := r.Known(id); ok {
			list = append(list, transport.Peer{Name: m.Name, Addr: addr})
		}
	}
	e.mu.Unlock()
	list = append(list, r.peers(n.self)...)
	for _, m := range n.cfg.Members {
		list = append(list, transport.Peer{Name: m.Name, Addr: m.Addr})
	}
	for _, p := range list {
		p.ID = 0
		if p.Name != n.self.Name && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}
