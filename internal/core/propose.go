package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// This file follows a batch through the core: proposed, committed, applied or fenced, answered.

// propose appends a batch to the leader's log. What fails here is definite: it never got there.
func (c *Core) propose(now time.Duration, b *Batch) {
	if err := c.mayPropose(now, b); err != nil {
		c.eff.Done = append(c.eff.Done, Done{b, err})
		return
	}
	first := c.fate.next
	if err := c.node.Propose(b.Seal(first)); err != nil {
		if errors.Is(err, raft.ErrProposalDropped) {
			err = ErrBusy
			if c.lease.transferring != 0 {
				err = ErrFenced // the role was given up before
			}
		}
		c.eff.Done = append(c.eff.Done, Done{b, err})
		return
	}
	c.fate.propose(now, b)
	c.pace.begin(now, b)
	c.hold(now, b)
	c.probe.proposed(b)
	if b.Size() > MaxSync {
		c.starving.large(now)
	}
}

// mayPropose says whether a batch can possibly count: its epoch is in force, and it is this leader
// that opened it, in this term, and holds the lease. The check that counts is made again when the batch
// is applied.
func (c *Core) mayPropose(now time.Duration, b *Batch) error {
	epoch := c.pos.Epoch()
	if now >= c.lease.until {
		c.renew(now) // the echoes that renew it may have come just now
	}
	switch {
	case b.Epoch < epoch.Epoch:
		return ErrFenced
	case b.Epoch > epoch.Epoch || epoch.Holder != c.cfg.Name:
		return ErrNotActive
	case c.state != raft.StateLeader || epoch.Term != c.term:
		return ErrFenced // this member's role of that epoch has ended
	case now >= c.lease.until:
		return ErrFenced // it ends at this moment, e.g. because the machine slept
	}
	return nil
}

// startEpoch proposes the entry that opens this leader's epoch.
func (c *Core) startEpoch(ev StartEpoch) {
	var cluster []byte
	if c.pos.ClusterID == ([16]byte{}) {
		cluster = ev.ClusterID[:]
	}
	if c.state != raft.StateLeader || c.node.Propose(EncodeStart(c.cfg.Name, cluster)) != nil {
		c.change(StartRefused{})
		return
	}
	c.chain.opening = true
}

// ride lets what a new leader has appended travel with the entry that begins its term, where that is about to leave. Raft sends a
// follower of which it does not know yet how much it has only one message before that is answered, and has made it already; so the
// start of an epoch would wait for that answer, a write of the follower's disk, and then for another. A message may hold
// whatever follows in the leader's log, and what raft knows of the follower comes with the answer.
//
// Invariant: the entries follow directly on those in the message, and both are of this leader's term.
func (c *Core) ride(entries []*raftpb.Entry) {
	for _, m := range c.eff.Send {
		if n := len(m.GetEntries()); m.GetType() == raftpb.MsgApp && m.GetTerm() == c.term && n > 0 &&
			m.GetEntries()[n-1].GetIndex()+1 == entries[0].GetIndex() {
			m.Entries = slices.Concat(m.GetEntries(), entries)
		}
	}
}

// commit moves over committed entries and hands out what they hold.
func (c *Core) commit(now time.Duration, m *raftpb.Message) error {
	a := &Apply{responses: m.GetResponses(), Patient: true}
	a.Accepted, a.Batches = a.accepted1[:0], a.batches1[:0]
	for _, e := range m.GetEntries() {
		epochs := c.pos.Epoch().Epoch
		moved, err := c.pos.Next(e)
		if err != nil {
			return err
		}
		if err := c.reconfigured(e, moved); err != nil {
			return err
		}
		if moved.raft != nil {
			c.look(now)
		}
		if moved.Count == 0 { // an epoch, members: something may follow from it
			a.Patient = false
		}
		a.Bytes += len(e.GetData())
		a.Term = e.GetTerm()
		if moved.Count > 0 {
			a.Accepted, a.requests = append(a.Accepted, e), a.requests || moved.Requests
			if b := c.fate.committed(moved.Header); b != nil {
				c.pace.end(b)
				c.pace.committedBytes += uint64(b.Size())
				c.paced(now, now-b.proposed, c.probe.committed(b))
				a.Batches = append(a.Batches, b)
			}
		}
		if e := c.pos.Epoch(); e.Epoch != epochs {
			a.epochs = append(a.epochs, e)
			c.settle(a)
			first, _ := c.source.FirstIndex()
			c.pos = c.pos.Since(first - 1)
			c.fate.next = c.pos.Index + 1
		}
	}
	a.Position, c.shelf.inForce = c.pos, c.pos.Raft
	c.reads.term = a.Term
	c.handOut(now, a)
	return nil
}

// handOut gives an apply to the driver.
func (c *Core) handOut(now time.Duration, a *Apply) {
	c.stall.apply(now)
	c.eff.Applies = append(c.eff.Applies, a)
}

// settle tells the fate of every open batch of an epoch that is over (G3).
func (c *Core) settle(a *Apply) {
	for {
		b, err := c.fate.over(c.pos.Epochs)
		switch {
		case b == nil:
			return
		case err == nil: // to be answered once the snapshot is restored
			a.Batches = append(a.Batches, b)
		default:
			c.eff.Done = append(c.eff.Done, Done{b, err})
		}
		c.pace.end(b)
	}
}

// applied answers what an apply has decided.
func (c *Core) applied(now time.Duration, a *Apply) {
	c.stall.applied(now)
	if a.Snapshot != nil {
		c.snapshots.installing = false
	}
	for _, m := range a.responses {
		_ = c.node.Step(m)
	}
	for _, b := range a.Batches {
		c.eff.Done = append(c.eff.Done, Done{b, nil})
	}
	for _, e := range a.epochs {
		c.change(EpochStarted{Epoch: e})
	}
	if c.state == raft.StateLeader && a.Term == c.term && c.chain.settled != c.term {
		c.chain.settled = c.term
		c.change(Settled{c.term})
	}
	if m := c.voter.called; m != nil {
		c.voter.called = nil
		c.receive(now, Receive{Message: m, At: now}) // where it has come too late by now, the promises say so
	}
}

// install goes on from a leader's checkpoint, which is in force on disk now.
func (c *Core) install(now time.Duration, snap *raftpb.Snapshot) error {
	cp, err := ParseCheckpoint(snap)
	if err != nil {
		return err
	}
	if cp.Position.Raft <= c.pos.Raft {
		return fmt.Errorf("%w: snapshot at raft index %d installed behind %d", ErrFormat, cp.Position.Raft, c.pos.Raft)
	}
	old := c.pos.Epoch().Epoch
	c.pos = cp.Position
	a := &Apply{Snapshot: snap, Position: c.pos, Term: snap.GetMetadata().GetTerm()}
	if e := c.pos.Epoch(); e.Epoch != old {
		a.epochs = []Epoch{e}
	}
	c.reads.term = a.Term
	c.enroll()
	c.forgetChange()
	c.settle(a)
	c.handOut(now, a)
	return nil
}
