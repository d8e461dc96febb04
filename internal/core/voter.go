package core

import (
	"math/rand/v2"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// A member that does not lead waits for signs of life of the one who does. When it has heard none for an election timeout, it
// campaigns: it asks for votes, first (raft's pre-vote) whether it would get them. What is owed to others (promise.go) may forbid
// it. Where it is known that the leader's process has ended, nobody waits (gone).
//
// Two that campaign at the same time may split the vote. Raft spreads them by chance over a second election timeout, which is
// most of what it takes to replace a leader that has fallen silent. But the members know each other. So they take turns: the
// first by rank campaigns when the timeout is over, each next a step later, and if none of them was elected they begin again,
// more slowly each time. Chance only breaks ties.

// timing is how fast a member's clocks run.
type timing struct {
	heartbeat time.Duration
	election  time.Duration // timeout
	drift     float64       // by which the rates of two clocks may differ
}

// A voter is the part of a member that waits for a leader: its election clock.
type voter struct {
	timing
	jitter *rand.Rand

	unborn  bool          // takes no part: hears nobody, and does not campaign
	electAt time.Duration // when to campaign
	heardAt time.Duration // when the leader last showed that it is alive
	// appendedAt is when it last sent records: nothing is decided by that.
	appendedAt time.Duration
	hunts      int             // quick campaigns left, to replace a dead leader
	tries      int             // campaigns since there was a sign of life, but for those of a hunt
	deaf       bool            // the leader does not hear a quorum: what comes from it is no sign of life
	patient    bool            // it has waited once more before it campaigns
	asked      *raftpb.Message // the last that asked whether it would vote and was not answered, for what is owed to the leader
	// called is the last TimeoutNow, if raft does not campaign for it before what is committed was applied here; else nil.
	called *raftpb.Message

	// It lets all others campaign first, and leads only where they cannot.
	arbiter   bool
	reluctant bool // it has said so
}

// stepPart of an election timeout is the step between the turns of two members: time to be elected, if it is not less than a
// heartbeat. Half a step passes before the first, since the others may have heard the leader a little later.
const stepPart = 10

// rankDelay is by how much longer each next member waits before it replaces a dead leader.
const rankDelay = 10 * time.Millisecond

// maxHunts is how often a member campaigns in quick succession to replace a dead leader.
const maxHunts = 8

// never is a time that does not come.
const never = 100 * 365 * 24 * time.Hour

// step is the time between the turns of two members.
func (v *voter) step() time.Duration { return max(v.heartbeat, v.election/stepPart) }

// turn is for how long the member of a rank lets others campaign first.
func (v *voter) turn(rank int) time.Duration {
	step := v.step()
	return step/2 + time.Duration(rank)*step + v.random(step/4) + v.behind()
}

// soon is how a member begins that cannot have promised anything.
func (v *voter) soon(now time.Duration, rank int) { v.electAt = now + v.heartbeat + v.turn(rank) }

// behind is for how long a member lets all others campaign first.
func (v *voter) behind() time.Duration {
	if v.arbiter || v.reluctant {
		return v.election
	}
	return 0
}

// wait starts the wait for the leader's next sign of life anew. A member that does not get to run waits for its debt longer.
func (v *voter) wait(now, debt time.Duration, rank int) {
	v.electAt = now + v.election + v.turn(rank) + debt
	v.patient, v.tries = false, 0
}

// heard takes note of a sign of life of the leader that came in at a time.
func (v *voter) heard(at time.Duration) {
	v.heardAt = max(v.heardAt, at)
	v.hunts = 0
}

// due reports whether it is time to campaign. A campaign that is due while this member, which often does not get to run,
// has just been woken late waits once more: what the leader has said meanwhile may be about to be heard.
func (v *voter) due(now time.Duration, starved bool) bool {
	late := now - v.electAt
	switch {
	case late < 0:
		return false
	case v.patient || late < v.heartbeat || !starved:
		return true
	}
	v.patient = true
	v.electAt = now + min(late, v.election)
	return false
}

// hunt lets the member replace a leader whose process has ended: at once if it is the first of those left, a little later if it
// is the next, so that they do not split the vote. It tries a few times.
func (v *voter) hunt(now time.Duration, rank int) {
	v.hunts = maxHunts
	v.electAt = now + time.Duration(rank)*rankDelay
}

// polled begins the wait for the votes themselves, for which the others have to write.
func (v *voter) polled(now time.Duration, voters int) {
	if v.hunts > 0 {
		v.electAt = now + v.afterHunt(voters)
	}
}

// afterHunt is how long a quick campaign among so many voters may take.
func (v *voter) afterHunt(voters int) time.Duration {
	return time.Duration(voters)*rankDelay + v.random(rankDelay)
}

// again sets the clock after a campaign among so many voters: for when all of them have had their turn.
func (v *voter) again(now, debt time.Duration, voters int) {
	if v.hunts > 0 {
		v.hunts--
		v.electAt = now + v.afterHunt(voters)
		return
	}
	cycle := min(time.Duration(voters)*v.step()<<min(v.tries, maxSlower), v.election)
	v.electAt = now + cycle + v.random(max(cycle/2, v.step())) + v.behind() + debt
	v.patient = false
	v.tries++
}

// maxSlower bounds how often the time between two campaigns is doubled; the election timeout does, too.
const maxSlower = 10

// notBefore puts a campaign off that would break a promise until a time.
func (v *voter) notBefore(free time.Duration) {
	v.electAt = max(v.electAt, free+v.random(v.heartbeat))
}

// standAside lets others have their chance, who wait for that long at most.
func (v *voter) standAside(now, wait time.Duration) {
	v.electAt = now + standAside*wait + v.random(v.election)
}

func (v *voter) random(below time.Duration) time.Duration {
	if below <= 0 {
		return 0
	}
	return time.Duration(v.jitter.Int64N(int64(below)))
}
