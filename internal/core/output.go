package core

import (
	"cmp"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// This file takes raft's output apart: what is to be written, what is committed, what goes to others.

// drain takes all of raft's output.
func (c *Core) drain(now time.Duration) error {
	for c.node.HasReady() {
		rd := c.node.Ready()
		if len(rd.Messages) == 0 {
			break // what is left to apply is being fetched
		}
		if err := c.ready(now, rd); err != nil {
			return err
		}
	}
	return nil
}

// ready takes one batch of raft's output apart.
func (c *Core) ready(now time.Duration, rd raft.Ready) error {
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			c.write(now, m)
		case raft.LocalApplyThread:
			if err := c.commit(now, m); err != nil {
				return err
			}
		default:
			if !c.sound(m) {
				continue // as if it were lost; raft sends it again
			}
			if m.GetType() == raftpb.MsgSnap {
				snap, err := ForOthers(m.GetSnapshot())
				if err != nil {
					return err
				}
				m.Snapshot = snap
				c.pinLog(now)
			}
			c.send(now, m)
		}
	}
	return nil
}

// sound reports whether a message has no entries but sound ones. Those that were committed before are in question: others have
// had them in their hands since they were proposed, and what they have done to them must not reach another member. What is
// damaged is read from disk again, beside the core.
func (c *Core) sound(m *raftpb.Message) bool {
	for _, e := range m.GetEntries() {
		if e.GetIndex() > c.pos.Raft {
			return true
		}
		if c.shelf.ours(e) {
			continue
		}
		if damage := Verify(e, "before they are sent to another member"); damage != nil {
			c.shelf.repair(damage)
			c.node.ReportUnreachable(m.GetTo())
			return false
		}
	}
	return true
}

// send finishes a message with its stamp and hands it out.
func (c *Core) send(now time.Duration, m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgApp:
		c.tidings.overtaken(m)
		if len(m.GetEntries()) == 0 && c.pace.follows() {
			c.tidings.hold(m, now+c.pace.soon())
			return
		}
	case raftpb.MsgHeartbeat:
		if c.state != raft.StateLeader {
			return // it has just given way
		}
		m.Context = nil
		if c.lease.stamps() {
			m.Context = beat(c.lease.stamp, c.cfg.NoCrashEvidence, !c.lease.rests)
			m.Index = new(c.pos.Index)
		}
	case raftpb.MsgHeartbeatResp:
		if stamp := stampOf(m); stamp > 0 {
			v := vow{stamp, c.cfg.ElectionTimeout, c.cfg.MaxClockDrift, c.promises.guarded(now), c.starving.starved(), c.snapshots.wants}
			if ofDeaf(m) {
				v.length = 0
			}
			m.Context = v.encode()
		}
	case raftpb.MsgTimeoutNow:
		m.Context = withStamp(nil, c.lease.released)
	case raftpb.MsgVote:
		if isForced(m) && c.promises.forced.term+1 == m.GetTerm() {
			m.Context = withStamp(campaignTransfer, c.promises.forced.stamp)
		}
	}
	c.eff.Send = append(c.eff.Send, m)
}

// write hands out what raft wants to be durable.
func (c *Core) write(now time.Duration, m *raftpb.Message) {
	w := &Write{Entries: m.GetEntries(), Snapshot: m.GetSnapshot(), issued: now}
	w.Send, w.responses = w.send1[:0], w.own1[:0]
	w.Patient = c.state == raft.StateFollower && w.Snapshot == nil // what it has written counts for others
	for _, e := range w.Entries {
		w.Bytes += len(e.GetData())
	}
	if w.Snapshot != nil {
		c.snapshots.installing = true
	}
	if len(w.Entries) > 0 {
		c.shelf.overwrite(w.Entries)
		c.changing.written(w.Entries)
		if c.chain.opening {
			c.chain.opening = false
			c.ride(w.Entries)
		}
	}
	if m.Term != nil {
		w.hard.Term, w.hard.Vote, w.hard.Commit = m.Term, m.Vote, m.Commit
		w.Hard = &w.hard
	}
	for _, r := range m.GetResponses() {
		switch own := r.GetTo() == c.cfg.ID; {
		case willVote(r) && own:
			_ = c.node.Step(r)
			c.look(now)
			continue
		case willVote(r):
			c.eff.Send = append(c.eff.Send, r)
			continue
		case own:
			w.responses = append(w.responses, r)
		default:
			w.Send = append(w.Send, r)
		}
		if r.GetType() == raftpb.MsgVoteResp && !r.GetReject() && r.GetTo() != c.cfg.ID {
			c.wait(now) // at once: a vote that is being written has been cast
			c.voter.hunts = 0
		}
	}
	if w.empty() {
		return
	}
	if c.stall.idle() {
		c.starving.busy(now)
	}
	c.stall.write(now, w)
	c.eff.Writes = append(c.eff.Writes, w)
}

// willVote reports whether a message says that a member would vote for another. Nothing that is written makes that true: it binds
// nobody, and what it was compared with can only become less if it is not durable yet. So it does not wait for the disk, which may
// have a queue of its own when a leader dies under load.
func willVote(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgPreVoteResp && !m.GetReject()
}

// written steps what had to wait for a write.
func (c *Core) written(now time.Duration, ev Written) error {
	w := ev.Write
	at := cmp.Or(w.At, now)
	if err := c.stall.written(at, w); err != nil {
		return err
	}
	c.pace.wrote(at - w.issued)
	if len(w.Entries) > 0 {
		c.shelf.wrote()
	}
	for _, m := range w.responses {
		if err := c.node.Step(m); err != nil {
			return fmt.Errorf("raft: own response: %w", err)
		}
	}
	if w.Snapshot != nil {
		return c.install(now, w.Snapshot)
	}
	return nil
}
