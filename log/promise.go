package log

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/mutant"
)

// The lease.
//
// A leader stamps each round of heartbeats with the time on its own clock, and a follower that has
// taken a heartbeat echoes its stamp. With the echo the follower promises to help nobody else become
// leader for one election timeout of its own clock. So once a quorum has echoed stamp s, nobody else
// can be elected before s + election timeout: every quorum contains a voter that promised. The
// leader subtracts one heartbeat interval, because timers fire late, and the share by which clocks
// may drift apart (Gray and Cheriton's leases; raft's own check of its quorum is no lease, since
// a voter forgets its leader as soon as it hears of a higher term).
//
// Invariant: what a voter owes only grows. A heartbeat that comes late or twice makes a promise neither
// older nor shorter.
//
// Invariant: a promise outlives the process. What a crashed voter promised is unknown when it comes
// back, so it begins with a guard: for one election timeout it helps nobody, whatever it hears meanwhile.
// A heartbeat that it hears says nothing of the promises that it has forgotten, since it may be an old one.
//
// A leader that hands over releases the promises: TimeoutNow, and the forced votes that follow it,
// carry the last stamp for which the leader has given up the lease. A voter that has promised a later
// stamp since, because the leader changed its mind, refuses them, however late they arrive.

// A promise is what a voter owes to a leader.
type promise struct {
	leader, term uint64
	stamp        int64
	until        time.Duration // on the voter's own clock
}

// A voter is all that a member owes to others, on its own clock.
type voter struct {
	promise               // to the last leader
	guard   time.Duration // until when the promises of an earlier process may last; never released
}

// owe makes a promise.
func (v *voter) owe(p promise) {
	if p.term < v.term || p.term == v.term && p.stamp <= v.stamp && !mutant.On(mutant.StampGoesBack) {
		return // it is owed already, and for longer
	}
	v.promise = p
	if mutant.On(mutant.GuardHeard) {
		v.guard = 0
	}
}

// forgive voids what is owed to the last leader.
func (v *voter) forgive() { v.promise.until = 0 }

// forbids reports whether it would break a promise to help an election in a term at this moment. released
// is the stamp up to which the leader of the term before has released its voters, 0 if it has not.
func (v *voter) forbids(now time.Duration, term uint64, released int64) bool {
	switch {
	case now < v.guard:
		return true
	case now >= v.until:
		return false
	case released == 0:
		return true
	}
	// A leader of term-1 existed, so the lease of any earlier term had ended before.
	return !(v.term+1 < term || v.term+1 == term && v.stamp <= released)
}

// free is when nothing is owed any more to whoever is owed to now.
func (v *voter) free() time.Duration { return max(v.guard, v.until) }

// quorumStamp returns the latest stamp that a quorum of the voters has echoed.
func quorumStamp(voters []uint64, echoes map[uint64]int64) int64 {
	stamps := make([]int64, 0, 8)
	for _, id := range voters {
		stamps = append(stamps, echoes[id])
	}
	slices.Sort(stamps)
	return stamps[(len(stamps)-1)/2]
}

// Stamps travel in the Context of raft's messages. Raft itself echoes the Context of a heartbeat, and
// marks a forced vote by a word in it, behind which the stamp stands.

var campaignTransfer = []byte("CampaignTransfer")

func stampOf(m *raftpb.Message) int64 {
	b := m.GetContext()
	if m.GetType() == raftpb.MsgVote {
		b = bytes.TrimPrefix(b, campaignTransfer)
	}
	if len(b) != 8 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b))
}

// releasedBy returns up to which stamp the sender of TimeoutNow, or of a forced vote, is released.
func releasedBy(m *raftpb.Message) int64 {
	if mutant.On(mutant.EndlessRelease) {
		return math.MaxInt64
	}
	return stampOf(m)
}

func withStamp(prefix []byte, stamp int64) []byte {
	return binary.LittleEndian.AppendUint64(slices.Clip(prefix), uint64(stamp))
}

func isForced(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgVote && bytes.HasPrefix(m.GetContext(), campaignTransfer)
}
