package core

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// receive steps a message of another member, past the promises.
func (c *Core) receive(now time.Duration, ev Receive) {
	if c.voter.unborn {
		return // whoever is heard may be followed, and whoever asks may be voted for
	}
	m := ev.Message
	from, term := m.GetFrom(), m.GetTerm()
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote:
		var released int64
		if isForced(m) {
			released = releasedBy(m)
			m = proto.Clone(m).(*raftpb.Message)
			m.Context = campaignTransfer
		}
		if c.promises.forbids(now, term, released) {
			if m.GetType() == raftpb.MsgPreVote {
				c.voter.asked = m
			}
			return
		}
		// The promise is over, so the leader that raft still believes in must not hinder the vote.
		if term > c.term && c.state == raft.StateFollower {
			_ = c.node.ForgetLeader()
		}
	case raftpb.MsgTimeoutNow:
		r := release{term: term, stamp: releasedBy(m)}
		if c.promises.forbids(now, term+1, r.stamp) || term != c.term {
			if term == c.term && c.promises.guarded(now) {
				c.refuse(now, m)
			}
			return
		}
		c.promises.forced = r
		c.chain.transferred(Reign{from, term})
	case raftpb.MsgTransferLeader:
		if c.state == raft.StateLeader && term == c.term { // else it was asked of an earlier leadership
			c.change(TransferAsked{By: from})
		}
		return
	case raftpb.MsgApp:
		if c.stall.full && hasRecords(m) {
			return // as if it were lost: the leader asks again with its heartbeats, and needs others for a majority
		}
	case raftpb.MsgSnap:
		// One at a time: the next would take the place of the one that is being restored. The leader
		// asks again.
		if c.snapshots.installing {
			return
		}
		m = c.forThisMember(m)
	case raftpb.MsgHeartbeatResp:
		if v := vowOf(m); v.stamp > 0 && c.state == raft.StateLeader && term == c.term {
			c.lease.heard(from, c.lease.echoOf(v))
			if v.guarded && c.transferee() == from {
				c.lease.refused(from)
				c.change(TransferRefused{By: from})
			}
			if f := c.flows[from]; f != nil {
				f.heard(now - time.Duration(v.stamp))
			}
			c.provide(now, from, v.wants)
			c.lease.beatAt = min(c.lease.beatAt, c.nextBeat(c.lease.beatenAt))
			if c.lease.answer(now, c.members.voters) {
				c.lease.beatAt = now
			}
		}
		// Raft would take the stamp for one of its own read requests.
		m = &raftpb.Message{Type: m.Type, To: m.To, From: m.From, Term: m.Term}
	}
	// Errors mean that the message is of no use any more, e.g. a response from a stranger.
	c.shelf.scanning = m.GetType() == raftpb.MsgTimeoutNow // which makes raft campaign
	_ = c.node.Step(m)
	c.shelf.scanning = false
	switch m.GetType() {
	case raftpb.MsgTimeoutNow:
		if c.voter.called = nil; c.node.BasicStatus().RaftState == raft.StateFollower {
			c.voter.called = m
		}
	case raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgSnap:
		st := c.node.BasicStatus()
		if st.Lead != from || st.HardState.GetTerm() != term {
			return
		}
		c.voter.heard(ev.At)
		if hasRecords(m) {
			c.voter.appendedAt = ev.At
		}
		stamp := int64(0)
		if m.GetType() == raftpb.MsgHeartbeat {
			stamp = stampOf(m)
			c.voter.deaf = stamp > 0 && ofDeaf(m)
		}
		if c.voter.deaf {
			return
		}
		c.wait(now)
		if stamp > 0 {
			c.told = Heard{m.GetIndex(), ev.At}
			c.promises.owe(promise{
				leader: from, term: term, stamp: stamp, until: now + c.cfg.ElectionTimeout, firm: deniesEvidence(m),
			})
		}
	}
}

func hasRecords(m *raftpb.Message) bool {
	return slices.ContainsFunc(m.GetEntries(), func(e *raftpb.Entry) bool { return isBatch(e.GetData()) })
}
