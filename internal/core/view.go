package core

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// A View is what a core knows at one moment that a decision about the role may rest on: of itself, and while it leads of
// the others. It is a value, and nothing changes it later. Times are on this member's clock; 0 stands for none.
type View struct {
	// Guard is until when this member helps in no election, because of what an earlier process of it may have promised.
	Guard time.Duration
	// Late is by how much this member was woken late, at most, while it does not get to run in time, and Hold until when
	// it therefore takes no lease. Pressed: it is so at this very moment, and not because of large records of its own.
	Late, Hold time.Duration
	Pressed    bool
	// DiskSince and ApplySince are since when the disk, or the state machine, has not answered, once that is so long that
	// this member must not lead.
	DiskSince, ApplySince time.Duration
	// Appended is when records of a leader, which then was another member, came here last.
	Appended time.Duration
	// Behind is how many entries are known to be committed, and not applied here.
	Behind uint64
	// Peers are the other voters but for arbiters, by id, while this member leads; else nil. Others are those who cannot lead or
	// had better not, by id: arbiters and observers.
	Peers, Others []PeerView
}

// A PeerView is what a leader knows of another member.
type PeerView struct {
	ID      uint64
	Heard   time.Duration // when the heartbeat was sent that it has answered last
	Behind  uint64        // entries that are here and not known to be there
	Lacks   uint64        // of those, the ones that have been here for half an election timeout or more
	Guarded bool          // it helps in no election yet, not even for itself
	Starved bool          // it does not get to run in time
}

// View returns what is known now. It costs about what a look at raft's progress does.
func (c *Core) View(now time.Duration) View {
	st := c.node.BasicStatus()
	s := &c.starving
	v := View{Behind: st.HardState.GetCommit() - min(st.Applied, st.HardState.GetCommit()), Pressed: s.pressed(now), Appended: c.voter.appendedAt}
	if now < c.promises.guard {
		v.Guard = c.promises.guard
	}
	if s.told {
		v.Late, v.Hold = s.latest, s.holdTill
	}
	if c.stall.unwritten(now) {
		v.DiskSince = c.stall.writtenAt
	}
	if c.stall.unapplied(now) {
		v.ApplySince = c.stall.appliedAt
	}
	if c.state != raft.StateLeader {
		return v
	}
	var last uint64
	v.Peers = make([]PeerView, 0, len(c.members.roster.Members))
	c.node.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		if id == c.cfg.ID {
			last = p.Match
			return
		}
		e, list := c.lease.echoes.of(id), &v.Others
		if typ == raft.ProgressTypePeer && !c.members.arbiter(id) {
			list = &v.Peers
		}
		*list = append(*list, PeerView{ID: id, Heard: time.Duration(e.stamp), Behind: p.Match, Guarded: e.guarded, Starved: e.starved})
	})
	for _, list := range [...][]PeerView{v.Peers, v.Others} {
		for i, p := range list {
			list[i].Behind = last - min(p.Behind, last)
			list[i].Lacks = c.lately.lacks(now, c.cfg.ElectionTimeout, p.Behind, list[i].Behind)
		}
	}
	return v
}
