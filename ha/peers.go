package ha

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
	"github.com/baton-ha/baton/transport"
)

// This file decides who may be talked to: it is the formatZK guard of ZKFC and the registration of the
// quorum journal's storage directories in one.

// ErrForgotten is the error of a member that the others know under another incarnation: its directory
// was emptied or replaced, or a second process uses its name. It has forgotten its votes and the
// records that it acknowledged, so it must not vote again under this name; replace the member.
var ErrForgotten = errors.New("baton: the others know this member with another directory")

// probeTimeout bounds the time in which a fresh member reaches one of the others to ask whether they know it, and probePatience that in which who
// was reached answers.
const (
	probeTimeout  = time.Second
	probePatience = 3 * time.Second
)

// transportConfig describes this member to the transport.
func (n *Node) transportConfig(begin beginning) transport.Config {
	self := transport.Peer{ID: begin.id.ID, Name: n.cfg.Name}
	var peers []transport.Peer
	var names []string
	for _, m := range n.cfg.Members {
		if m.Name == n.cfg.Name {
			self.Addr = m.Addr
		} else {
			peers = append(peers, transport.Peer{ID: memberID(m.Name), Name: m.Name, Addr: m.Addr})
		}
		names = append(names, m.Name)
	}
	slices.Sort(names)
	b := boundsFor(n.cfg.MemoryBytes, len(peers), n.cfg.MaxRecord)
	return transport.Config{
		SessionConfig: transport.SessionConfig{
			Self: self, Peers: peers, TLS: n.cfg.TLS, GetTLS: n.cfg.GetTLS, Authorize: n.cfg.Authorize, Logger: n.cfg.Logger,
			DialTimeout: n.cfg.DialTimeout, HandshakeTimeout: max(3*time.Second, 3*n.cfg.DialTimeout),
			Hello: func() transport.Hello {
				h := transport.Hello{Cluster: n.cfg.Cluster, Incarnation: begin.id.Incarnation, Members: names, Joining: begin.joins, Heal: begin.joins && n.cfg.Heal}
				if begin.joins {
					h.Members = nil
				}
				if n.birth != nil { // else nothing is written yet
					n.introduce(&h)
				}
				return h
			},
			Admit: n.admit, Refused: n.refused, Problem: n.problem,
		},
		Bind: n.cfg.Bind, Listener: n.cfg.Listener, Share: n.cfg.SharePort, CrashEvidence: !n.cfg.NoCrashEvidence,
		Awaited: n.awaits, Parted: n.hearsay.parted,
		QueueBytes: b.queue, StreamBytes: b.streams, SnapshotLimit: n.cfg.SnapshotLimit, SnapshotPace: func() int64 { return n.log.SnapshotRate() }, WriteTimeout: max(time.Second, 2*n.cfg.ElectionTimeout),
	}
}

// refusal says in our words why a peer will not talk to us.
func refusal(name string, err *transport.RefusedError) error {
	switch {
	case err.Local:
	case errors.Is(err, transport.ErrNotAdmitted):
		return fmt.Errorf("%w: refused by %s: %w", ErrForgotten, name, err)
	case errors.Is(err, transport.ErrRemoved):
		return fmt.Errorf("%w: refused by %s: %w", ErrRemoved, name, err)
	}
	return fmt.Errorf("baton: refused by %s: %w", name, err)
}

// checkMembers compares the configured members of a directory that is not born with those that it was made for: a longer list would let
// the new ones elect each other, and forget everything. Afterwards the list is in the log.
func (n *Node) checkMembers(want []log.Member) error {
	_, snap, _, _ := n.disk.Recovered()
	if _, born := n.disk.Birth(); born || snap == nil {
		return nil
	}
	have, err := log.RosterOf(snap)
	if err != nil {
		return err
	}
	names := func(members []log.Member) (names []string) {
		for _, m := range members {
			names = append(names, m.Name)
		}
		slices.Sort(names)
		return names
	}
	if h, w := names(have.Members), names(want); !slices.Equal(h, w) {
		return fmt.Errorf("%w: the directory was made for %q, and the configuration lists %q", ErrMembers, h, w)
	}
	return nil
}

// introduce says what this member knows of its birth, and of the others.
func (n *Node) introduce(h *transport.Hello) {
	if c := n.disk.ClusterID(); c != ([16]byte{}) {
		h.ClusterID = c[:]
	}
	if said, unborn := n.birth.says(); unborn {
		h.Known = said
		return
	}
	h.Members = nil // the list is in the log
	n.sayList(h)
	if h.Joining {
		return
	}
	h.Born = true
	h.Birth, _ = n.disk.Birth()
	h.Known = n.disk.Peers()
	h.Known[n.cfg.Name] = h.Incarnation
}

// admit decides whether to talk to another member: to one that is on the list, with the directory with which it is, or was met first. Who waits to
// be added is remembered, and whoever knows a later list is believed.
func (n *Node) admit(h transport.Hello) error {
	err := n.judge(h)
	if err == nil {
		n.overhear(h)
	}
	return err
}

func (n *Node) judge(h transport.Hello) error {
	r := n.roster()
	m, listed := r.Known(h.ID)
	removed := func() error {
		return fmt.Errorf("%s was %w, with the directory of incarnation %x", h.Name, transport.ErrRemoved, h.Incarnation)
	}
	switch {
	case h.Joining && r.Left(h.ID):
		return removed() // before it knew that it had been added
	case h.Joining && !listed:
		n.expect(h)
		return nil // it may ask; to talk with it, it must be a peer
	}
	if n.birth.hear(h.Name, wordOf(h)) {
		return nil
	}
	switch later := n.believe(h); {
	case r.Left(h.ID) && h.Born:
		return removed()
	case later && !listed:
		return nil // it is a peer by now, or still unknown
	case !listed && r.has(h.Name):
		return fmt.Errorf("%s is known here with another directory", h.Name)
	case !listed:
		return nil // nobody knows it
	case m.Name != h.Name, m.Incarnation != 0 && m.Incarnation != h.Incarnation:
		return fmt.Errorf("%s is known here with another directory", h.Name)
	case m.Incarnation != 0:
		return nil
	}
	if h.Purpose == transport.PurposeProbe {
		if met := n.disk.Peers()[h.Name]; met != 0 && met != h.Incarnation {
			return fmt.Errorf("%s is known here with another directory", h.Name)
		}
		return nil
	}
	err := n.disk.Meet(h.Name, h.Incarnation)
	var stranger *storage.StrangerError
	if err != nil && !errors.As(err, &stranger) {
		return fmt.Errorf("%w: %w", transport.ErrNotNow, err) // we cannot tell: we are closing, or our disk fails
	}
	return err
}

// refused is told when we and a peer do not talk. If it is we who have lost our directory, or our place, we stop.
func (n *Node) refused(name string, err error) {
	var r *transport.RefusedError
	if errors.As(err, &r) && !r.Local && (errors.Is(err, transport.ErrNotAdmitted) || errors.Is(err, transport.ErrRemoved)) {
		n.log.Fail(refusal(name, r))
	}
}

// keepClusterID writes the cluster's id into our identity once the first epoch has made it. It has a goroutine of its own, since
// the identity may be under way to the disk, for whatever reason, when an epoch starts.
func (n *Node) keepClusterID() {
	for {
		select {
		case <-n.founded:
		case <-n.log.Done():
			return
		}
		for {
			id := n.log.ClusterID()
			if id == ([16]byte{}) {
				break
			}
			err := n.disk.SetClusterID(id)
			if err == nil || errors.Is(err, storage.ErrClosed) {
				n.problem("", problemIdentity, nil)
				break
			}
			err = fmt.Errorf("baton: keep the cluster's id: %w", err)
			if errors.Is(err, storage.ErrClusterID) {
				n.log.Fail(err)
				return
			}
			n.problem("", problemIdentity, err)
			select {
			case <-time.After(identityPause):
			case <-n.log.Done():
				return
			}
		}
	}
}

// identityPause is the pause before the identity is written again after that has failed.
const identityPause = time.Second

// space is told how much room there is on the disk.
func (n *Node) space(s storage.Space, why error) {
	n.log.Room(why, s == storage.SpaceOut)
}

// poke leaves a token in a channel of size 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
