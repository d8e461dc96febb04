package core

import (
	"errors"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/baton-ha/baton/internal/mutant"
)

// This file decides who leads: elections on the clock, the promises of voters (promise.go says what
// they are for), the leader's heartbeats and lease, and hand-overs.

// receive steps a message of another member, past the promises.
func (c *Core) receive(now time.Duration, ev Receive) {
	if c.unborn {
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
		if c.owed.forbids(now, term, released) && !mutant.On(mutant.NoPromise) {
			return
		}
		// The promise is over, so the leader that raft still believes in must not hinder the vote.
		if term > c.term && c.state == raft.StateFollower {
			_ = c.node.ForgetLeader()
		}
	case raftpb.MsgTimeoutNow:
		r := release{term: term, stamp: releasedBy(m)}
		if c.owed.forbids(now, term+1, r.stamp) || term != c.term {
			return
		}
		c.forced = r
	case raftpb.MsgTransferLeader:
		if c.state == raft.StateLeader && term == c.term { // else it was asked of an earlier leadership
			c.eff.Changes = append(c.eff.Changes, TransferAsked{By: from})
		}
		return
	case raftpb.MsgApp:
		if c.diskOut && hasRecords(m) {
			return // as if it were lost: the leader asks again with its heartbeats, and needs others for a majority
		}
	case raftpb.MsgSnap:
		// One at a time: the next would take the place of the one that is being restored. The leader
		// asks again.
		if c.installing && !mutant.On(mutant.StackedSnapshots) {
			return
		}
	case raftpb.MsgHeartbeatResp:
		if v := vowOf(m); v.stamp > 0 && c.state == raft.StateLeader && term == c.term {
			c.lease.heard(from, c.echoOf(v))
			c.beatAt = min(c.beatAt, c.beatenAt+c.pace())
		}
		// Raft would take the stamp for one of its own read requests.
		m = &raftpb.Message{Type: m.Type, To: m.To, From: m.From, Term: m.Term}
	}
	// Errors mean that the message is of no use any more, e.g. a response from a stranger.
	c.shelf.scanning = m.GetType() == raftpb.MsgTimeoutNow // which makes raft campaign
	_ = c.node.Step(m)
	c.shelf.scanning = false
	switch m.GetType() {
	case raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgSnap:
		st := c.node.BasicStatus()
		if st.Lead != from || st.HardState.GetTerm() != term {
			return
		}
		c.heardAt = max(c.heardAt, ev.At)
		c.hunts = 0
		c.deferElection(now)
		if stamp := stampOf(m); m.GetType() == raftpb.MsgHeartbeat && stamp > 0 {
			c.owed.owe(promise{
				leader: from, term: term, stamp: stamp, until: now + c.cfg.ElectionTimeout, firm: deniesEvidence(m),
			})
		}
	}
}

func hasRecords(m *raftpb.Message) bool {
	return slices.ContainsFunc(m.GetEntries(), func(e *raftpb.Entry) bool { return isBatch(e.GetData()) })
}

// tick does what the clock asks for.
func (c *Core) tick(now time.Duration) {
	if c.state == raft.StateLeader {
		if now < c.beatAt {
			return
		}
		c.beatenAt, c.beatAt = now, now+c.pace()
		if c.transferring != 0 && now >= c.transferring && c.node.BasicStatus().LeadTransferee == raft.None {
			c.transferring = 0 // raft has given up, and sends no TimeoutNow any more
		}
		c.pinLog(now)
		if c.stalled(now) {
			return // a leader whose disk hangs is not alive: let it be replaced
		}
		if c.transferring == 0 {
			if c.watch(now) {
				c.giveWay(now)
				return
			}
			c.stampRound(now)
			c.relieve(now)
		}
		c.node.Tick()
		return
	}
	if now < c.electAt || !c.impatient(now) {
		return
	}
	c.deferElection(now)
	if c.hunts > 0 {
		c.hunts--
		c.electAt = now + time.Duration(len(c.members.voters.all()))*rankDelay + c.random(rankDelay)
	}
	if !c.stalled(now) {
		c.campaign(now)
	}
}

// hurry sends the next heartbeats now if they are due soon.
func (c *Core) hurry(now time.Duration) {
	if c.state == raft.StateLeader && now >= c.beatAt-c.pace()/2 {
		c.beatAt = now
		c.tick(now)
	}
}

// campaign asks for votes, of which its own is the first: so it waits as long as that would break a promise.
func (c *Core) campaign(now time.Duration) {
	if c.owed.forbids(now, c.term+1, 0) {
		c.electAt = max(c.electAt, c.owed.free()+c.random(c.cfg.Heartbeat))
		return
	}
	_ = c.node.ForgetLeader()
	c.shelf.scanning = true
	_ = c.node.Campaign()
	c.shelf.scanning = false
}

// gone voids what is owed to a dead leader, and campaigns soon: at once on the member with the first
// id, a little later on the next, so that they do not split the vote. The others may get the evidence
// a little later and refuse until then, so it tries a few times.
func (c *Core) gone(now time.Duration, ev Gone) {
	id := ev.ID
	if c.heardAt > ev.At {
		return // a leader was heard since: perhaps a new process of that name
	}
	if c.owed.leader != id || c.owed.firm && !mutant.On(mutant.EvidenceByOwn) {
		return // of one that it has heard no heartbeat of, it does not know whether evidence counts
	}
	c.owed.forgive()
	if c.leader != id || c.owed.term != c.term || c.state != raft.StateFollower {
		return
	}
	_ = c.node.ForgetLeader()
	c.hunts = maxHunts
	c.electAt = now + time.Duration(c.members.voters.rank(c.cfg.ID, id))*rankDelay + c.random(rankDelay/2)
}

// rankDelay is by how much longer each next member waits before it replaces a dead leader.
const rankDelay = 10 * time.Millisecond

// maxHunts is how often a member campaigns in quick succession to replace a dead leader.
const maxHunts = 8

// stalled reports whether the disk or the state machine has not answered for so long that this member
// must not lead. A disk may take its time over what is large, and a state machine over what is a lot of records.
func (c *Core) stalled(now time.Duration) bool {
	return c.unwritten(now) ||
		c.applies > 0 && now-c.appliedAt > applyPatience*c.cfg.ElectionTimeout
}

// unwritten reports whether the disk has not answered for too long: for half an election timeout and what large
// writes take, or for twice as long as lately, when it did answer. Several writes may be one, of about maxSync bytes
// and one write more.
func (c *Core) unwritten(now time.Duration) bool {
	if len(c.writes) == 0 {
		return false
	}
	bytes := 0
	for _, w := range c.writes {
		if bytes += w.Bytes; bytes >= MaxSync {
			break
		}
	}
	patience := max(c.cfg.ElectionTimeout/2, min(2*c.slowest.at(now), slowestWait*c.cfg.ElectionTimeout))
	return now-c.writtenAt > patience+timeFor(bytes, slowestDisk)
}

// maxSync bounds the bytes that are synced at a time, so that an answer is never far away.
const MaxSync = 1 << 20

const (
	slowestFor  = 10 // election timeouts for which a slow answer of the disk is remembered
	slowestWait = 2  // election timeouts that are not waited beyond because of it
)

// A peak is the highest of the values of a while.
type peak struct {
	value time.Duration
	until time.Duration
}

// note takes a value that counts for a while.
func (p *peak) note(now, value, lasts time.Duration) {
	if value >= p.at(now) {
		p.value, p.until = value, now+lasts
	}
}

// at is the peak at a time.
func (p *peak) at(now time.Duration) time.Duration {
	if now >= p.until {
		return 0
	}
	return p.value
}

// slowestDisk is the bytes per second of a disk that is not taken for one that has stalled.
const slowestDisk = 16 << 20

// timeFor is how long bytes take at a rate.
func timeFor(bytes, perSecond int) time.Duration {
	return time.Duration(float64(bytes) / float64(perSecond) * float64(time.Second))
}

// applyPatience is how many election timeouts one apply may take before the member counts as stalled.
const applyPatience = 10

// stampRound begins a round of heartbeats that the lease may rest on.
func (c *Core) stampRound(now time.Duration) {
	c.lease.stamp = int64(now)
	c.lease.heard(c.cfg.ID, c.echoOf(vow{stamp: c.lease.stamp, length: c.cfg.ElectionTimeout}))
	c.owed.owe(promise{leader: c.cfg.ID, term: c.term, stamp: c.lease.stamp, until: now + c.cfg.ElectionTimeout})
}

// pace is the interval of the leader's heartbeats.
func (c *Core) pace() time.Duration {
	return c.lease.pace(c.cfg.Heartbeat, c.lease.supported(c.members.voters) != 0)
}

// renew works out the lease.
func (c *Core) renew(now time.Duration) {
	if c.state != raft.StateLeader {
		return
	}
	if mutant.On(mutant.LeaseFromRaft) {
		c.setLease(now + c.cfg.ElectionTimeout)
		return
	}
	end := c.lease.supported(c.members.voters)
	if end == 0 || c.transferring != 0 || now < c.starving.holdTill {
		c.setLease(0)
		return
	}
	c.setLease(end - c.lease.pace(c.cfg.Heartbeat, true)) // at each step, so no second look at the voters
}

func (c *Core) setLease(until time.Duration) {
	if until != c.lease.until {
		c.lease.until = until
		c.eff.Changes = append(c.eff.Changes, Lease{Until: until})
	}
}

// transfer gives up the lease and lets raft hand leadership on. Raft sends TimeoutNow when the other
// has caught up; if that does not happen within an election timeout, it gives up.
func (c *Core) transfer(now time.Duration, to uint64) {
	if c.state != raft.StateLeader || to == c.cfg.ID {
		return
	}
	c.lease.released = max(c.lease.stamp, 1)
	c.owed.forgive()
	c.setLease(0)
	c.transferring = now + c.cfg.ElectionTimeout + 2*c.cfg.Heartbeat
	c.node.TransferLeader(to)
}

// ErrNoSuccessor is returned by Successor, and matched by what wraps it, when nobody could take over.
var ErrNoSuccessor = errors.New("baton: no other member is alive and caught up")

// maxHandoverLag is how many raft entries a successor may be behind: few, since nothing can be
// appended while it catches up.
const maxHandoverLag = 1024

// Successor picks the voter to which leadership could be handed now: the one wanted if it is alive and
// caught up, or if want is 0 the best of those. It changes nothing.
func (c *Core) Successor(now time.Duration, want uint64) (uint64, error) {
	if id, err := c.successor(now, want, true); err == nil {
		return id, nil
	}
	return c.successor(now, want, false)
}

// successor is Successor, of all that could take over or of those that are well.
func (c *Core) successor(now time.Duration, want uint64, well bool) (uint64, error) {
	var best, match, last uint64
	c.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		if id == c.cfg.ID {
			last = p.Match
		}
	})
	c.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		e := c.lease.echoes[id]
		alive := e.stamp > 0 && time.Duration(e.stamp) > now-4*c.cfg.Heartbeat && !e.guarded && !(well && e.starved)
		if id == c.cfg.ID || typ != raft.ProgressTypePeer || want != 0 && id != want || !alive || p.Match+maxHandoverLag < last {
			return
		}
		if p.Match > match || p.Match == match && id < best || best == 0 {
			best, match = id, p.Match
		}
	})
	if best == 0 {
		return 0, ErrNoSuccessor
	}
	return best, nil
}

// snapshotSent tells raft how sending a snapshot ended, if it waits for that one. Of one that was superseded,
// or that was sent in an earlier term, raft does not want to hear: it would take its failure for that of the
// one that is on its way now, send yet another, and so on.
func (c *Core) snapshotSent(ev SnapshotSent) {
	to, status := ev.Message.GetTo(), raft.SnapshotFailure
	if ev.OK {
		status = raft.SnapshotFinish
	}
	waits := mutant.On(mutant.SupersededFails)
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id == to && p.State == tracker.StateSnapshot && p.PendingSnapshot == ev.Message.GetSnapshot().GetMetadata().GetIndex() &&
			ev.Message.GetTerm() == c.term && c.state == raft.StateLeader {
			waits = true
		}
	})
	if waits {
		c.node.ReportSnapshot(to, status)
	}
}

// deferElection starts the wait for the leader's next sign of life anew.
func (c *Core) deferElection(now time.Duration) {
	c.electAt = now + c.cfg.ElectionTimeout + c.random(c.cfg.ElectionTimeout)
	if c.starved() {
		c.electAt += c.starving.debt
	}
	c.starving.patient = false
}

func (c *Core) random(below time.Duration) time.Duration {
	if below <= 0 {
		return 0
	}
	return time.Duration(c.jitter.Int64N(int64(below)))
}
