package ha

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// An Obstacle is a reason why a member may not have the role, or had better leave it to another, as long as it stands. What is
// wrong with a member is either an obstacle or, where the role does not depend on it, a [Problem]: never both.
type Obstacle struct {
	Kind ObstacleKind
	// Text says it in words, as they were when it began.
	Text string
	// Err is the error behind it, nil if there is none.
	Err error
	// Since is when it began, Until when it ends by itself, zero if that is not known; by the clock on the wall.
	Since, Until time.Time
}

// An ObstacleKind says in one word, for programs, what stands in the way.
type ObstacleKind string

// The kinds of obstacle. Those that are said to bar keep the member from the role; with the others it may have it, and
// whoever chooses prefers a member without.
const (
	// ObstacleUnborn bars: the member is new, and the cluster cannot begin yet ([ErrUnborn]).
	ObstacleUnborn ObstacleKind = "unborn"
	// ObstacleSick bars: Config.Health has failed as often as Config.HealthStrikes says, or has not returned for the first time yet.
	ObstacleSick ObstacleKind = "sick"
	// ObstacleRecovering: the member was sick. Others are preferred for Config.CoolDown, and for twice as long each time that it
	// is sick again soon after, eight times at most. Become(Active) on this member ends it.
	ObstacleRecovering ObstacleKind = "recovering"
	// ObstacleAway bars: somebody has asked this member to stay away, for the reason in the text ([Node.StayAway]).
	ObstacleAway ObstacleKind = "away"
	// ObstacleCallback bars: a callback has not returned, Config.DrainTimeout after its ctx had ended.
	ObstacleCallback ObstacleKind = "callback"
	// ObstacleCoolDown bars: OnActive has failed. It lasts for Config.CoolDown, and for twice as long each time that it fails again
	// soon after, eight times at most. Become(Active) on this member ends it.
	ObstacleCoolDown ObstacleKind = "cool-down"
	// ObstacleHandOver bars: the member is handing the role over.
	ObstacleHandOver ObstacleKind = "hand-over"
	// ObstacleRestart bars for an election timeout after a start: an earlier process of this member may have promised
	// the others to help nobody else, not even itself.
	ObstacleRestart ObstacleKind = "restart"
	// ObstacleDiskStalled bars: the disk has not answered for half an election timeout, or longer where it has much to write.
	ObstacleDiskStalled ObstacleKind = "disk-stalled"
	// ObstacleDiskSlow bars: the disk did not answer, and has not yet been fast three times in a row since. The member writes a block
	// each heartbeat to find out; fast is what takes no longer than a quarter of an election timeout.
	ObstacleDiskSlow ObstacleKind = "disk-slow"
	// ObstacleApplyStalled bars: the state machine has not returned from Apply for ten election timeouts.
	ObstacleApplyStalled ObstacleKind = "apply-stalled"
	// ObstacleLagging bars: more than 1,024 raft entries are missing here, or are not applied yet.
	ObstacleLagging ObstacleKind = "lagging"
	// ObstacleLoop bars: the goroutine that decides about the role has not run for an election timeout.
	ObstacleLoop ObstacleKind = "loop"
	// ObstacleSilent bars, and is another member's: it has answered no heartbeat for four of them.
	ObstacleSilent ObstacleKind = "silent"
	// ObstacleStarved: the member does not get to run in time.
	ObstacleStarved ObstacleKind = "starved"
	// ObstacleJoining bars: the member is not on its cluster's list.
	ObstacleJoining ObstacleKind = "joining"
	// ObstacleObserver bars: the member has no vote.
	ObstacleObserver ObstacleKind = "observer"
	// ObstacleArbiter bars: the member votes and keeps the log, and is never Active.
	ObstacleArbiter ObstacleKind = "arbiter"
	// ObstacleDiskFull: the disk is nearly full, and the member takes no appends ([ErrNoRoom]).
	ObstacleDiskFull ObstacleKind = "disk-full"
)

// String is the obstacle for people.
func (o Obstacle) String() string {
	if o.Until.IsZero() {
		return fmt.Sprintf("%s: %s", o.Kind, o.Text)
	}
	return fmt.Sprintf("%s until %s: %s", o.Kind, o.Until.Format("15:04:05.000"), o.Text)
}

// MarshalJSON writes the obstacle with lower-case names; the error is in the text.
func (o Obstacle) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind  ObstacleKind `json:"kind"`
		Text  string       `json:"text"`
		Since time.Time    `json:"since"`
		Until time.Time    `json:"until,omitzero"`
	}{o.Kind, o.Text, o.Since, o.Until})
}

// An ObstacleError is returned by Become when obstacles keep the member that should take the role from it.
// It matches Err.
type ObstacleError struct {
	// Err is [ErrNotChosen] or [ErrNoSuccessor].
	Err error
	// Obstacles are those of the member that was asked for or, with ErrNoSuccessor, of each that could have been, by name.
	Obstacles map[string][]Obstacle
}

func (e *ObstacleError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", e.Err)
	for _, name := range slices.Sorted(maps.Keys(e.Obstacles)) {
		for _, o := range e.Obstacles[name] {
			fmt.Fprintf(&b, "; %s: %v", name, o)
		}
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ObstacleError) Unwrap() error { return e.Err }
