package ha

import (
	"context"
	"encoding/json"
	"iter"
	"reflect"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/log"
)

// A State is what a member is at the moment.
type State uint8

// The states of a member. [Active] and [Standby] are also what Become is told.
const (
	// Electing: no leader is known. Without a majority it stays so.
	Electing State = iota + 1
	// Standby: another member leads, and this one follows the log.
	Standby
	// Activating: this member leads, and an epoch, the lease or OnStandby's return is still missing.
	Activating
	// Active: OnActive runs or has returned nil, the token is good.
	Active
	// Draining: the role has ended and OnActive has not returned, or a handover is under way.
	Draining
	// Failed: the node is closed, or something broke: Status.Err says what.
	Failed
	// Observer: this member follows the log and has no vote. It is never Active.
	Observer
	// Joining: this member waits until its cluster has added it, and then until it has caught up and may vote, if it is to.
	Joining
	// Arbiter: this member votes and keeps the log, without understanding it. It is never Active.
	Arbiter
)

var stateNames = [...]string{"Unknown", "Electing", "Standby", "Activating", "Active", "Draining", "Failed", "Observer", "Joining", "Arbiter"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return stateNames[0]
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Status is what a member knows about itself and its cluster at one moment.
type Status struct {
	Name  string
	State State
	// Token is this member's token while it is Active, otherwise zero.
	Token fence.Token
	// Epoch is the epoch in force as far as this member knows, 0 before the first.
	Epoch uint64
	// Active is the member that opened Epoch if it still leads, "" if none is known; ActiveAddr is
	// its address.
	Active, ActiveAddr string
	// ActiveAdvertise is where its own service is reached, "" if it has not said so.
	ActiveAdvertise string
	// Leader is the member that leads the raft group, "" if none is known. A leader that is not
	// Active keeps the log alive.
	Leader string
	// Index is the last record that this member knows to be committed, Applied the last that its
	// StateMachine was given.
	Index, Applied uint64
	// Lag is how far behind this member's StateMachine may be, as far as is known here: that of an Active is not. A read that must
	// see everything calls [Node.ReadBarrier].
	Lag Lag
	// Lease is how much longer the role is sure to last without any further answer, of an Active; and of one that is Draining, for how
	// long nobody else can be Active, if it hands nothing over.
	Lease time.Duration
	// Err is why the node failed, or the last error of a callback, or of the StateMachine where the member goes on.
	Err error
	// Obstacles are why this member may not have the role, or had better not, by kind; nil if nothing is in its way.
	Obstacles []Obstacle
	// Problems are what else is wrong at present without ending the member, by kind and peer; nil if nothing is.
	Problems []Problem
	// Snapshots are those on their way to and from other members, by peer; nil if there are none.
	Snapshots []Underway
}

// Lag is how far behind a member may be: by how many Records (a uint64) that the leader is known to have, and the Time (a time.Duration) in
// which records may have been acknowledged that are not applied here.
type Lag = log.Lag

// same reports whether two statuses are alike in what the role machine says.
func (s Status) same(o Status) bool {
	return s.State == o.State && s.Token == o.Token && s.Epoch == o.Epoch && s.Active == o.Active &&
		s.ActiveAddr == o.ActiveAddr && s.ActiveAdvertise == o.ActiveAdvertise && s.Leader == o.Leader && sameError(s.Err, o.Err)
}

// sameError compares without calling the errors, and without a panic if they cannot be compared.
func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(a) == reflect.TypeOf(b) && a == b
}

// MarshalJSON writes the status with lower-case names; times are in seconds, the error a text.
func (s Status) MarshalJSON() ([]byte, error) {
	var failure string
	if s.Err != nil {
		failure = s.Err.Error()
	}
	return json.Marshal(struct {
		Name       string      `json:"name"`
		State      State       `json:"state"`
		Token      fence.Token `json:"token"`
		Epoch      uint64      `json:"epoch"`
		Active     string      `json:"active"`
		ActiveAddr string      `json:"active_addr"`
		Advertise  string      `json:"active_advertise,omitempty"`
		Leader     string      `json:"leader"`
		Index      uint64      `json:"index"`
		Applied    uint64      `json:"applied"`
		Lag        uint64      `json:"lag_records"`
		LagTime    float64     `json:"lag_seconds"`
		Lease      float64     `json:"lease_seconds"`
		Err        string      `json:"error,omitempty"`
		Obstacles  []Obstacle  `json:"obstacles,omitempty"`
		Problems   []Problem   `json:"problems,omitempty"`
		Snapshots  []Underway  `json:"snapshots,omitempty"`
	}{s.Name, s.State, s.Token, s.Epoch, s.Active, s.ActiveAddr, s.ActiveAdvertise, s.Leader, s.Index, s.Applied, s.Lag.Records, s.Lag.Time.Seconds(), s.Lease.Seconds(), failure, s.Obstacles, s.Problems, s.Snapshots})
}

// Cluster returns the name of the member's cluster, Config.Cluster.
func (n *Node) Cluster() string { return n.cfg.Cluster }

// Status returns the member's present status. It never blocks, and reads the clock: what the loop has said last
// is shown only as long as it can be true, even if the loop stands still.
func (n *Node) Status() Status {
	s := n.view(n.clock())
	s.Index, _ = n.log.Position()
	s.Applied = n.log.Applied()
	if s.State != Active {
		s.Lag = n.log.Lag()
	}
	s.Obstacles, s.Problems = n.conditions.list()
	s.Snapshots = n.underway()
	return s
}

// view is what the loop has said last, without what can no longer be true: a role whose lease is over, a
// leader that was not heard for an election timeout, and everything that a loop must look after that does not run.
func (n *Node) view(now time.Duration) Status { return n.viewAt(now, n.log.Heard()) }

// failed reports whether the member has stopped.
func (n *Node) failed() bool { return n.status.Load().State == Failed || n.lost.Load() != nil }

func (n *Node) viewAt(now, heard time.Duration) Status {
	s := *n.status.Load()
	if s.State == Failed {
		return s
	}
	if lost := n.lost.Load(); lost != nil {
		return Status{Name: s.Name, State: Failed, Epoch: s.Epoch, Err: *lost}
	}
	stands := n.stands(now)
	if s.State == Draining {
		s.Lease = max(0, n.leftUntil(n.leaseEnd.Load(), now, wallTime()))
	}
	if s.State == Active {
		t := n.tenure.Load()
		if t != nil && t.token == s.Token {
			s.Lease = n.left(t, now)
		}
		if s.Lease <= 0 {
			s.State, s.Token, s.Lease = Draining, fence.Token{}, 0
			s.Active, s.ActiveAddr, s.ActiveAdvertise = "", "", ""
		}
	}
	if s.Leader != "" && (stands || s.Leader != s.Name && now-heard > n.cfg.ElectionTimeout) {
		s.Leader, s.Active, s.ActiveAddr, s.ActiveAdvertise = "", "", "", ""
		if s.State == Standby || s.State == Activating {
			s.State = Electing
		}
	}
	return s
}

// stands reports whether the loop has not run for an election timeout. It is woken twice as often.
func (n *Node) stands(now time.Duration) bool {
	return now-time.Duration(n.pulse.Load()) > n.cfg.ElectionTimeout
}

// watchLoop looks after the loop from beside it: it sees to it that it runs now and then, shows it as an obstacle if it
// does not, and tells watchers when something has come to its end of which the loop has said nothing.
func (n *Node) watchLoop() {
	tick := moment.NewTicker(n.cfg.ElectionTimeout / 2)
	defer tick.Stop()
	var asked time.Duration // when the loop was woken last
	var last Status
	var lone leaderless
	for {
		select {
		case <-n.ended:
			n.conditionOver(loopStands.key)
			return
		case <-n.hurry:
			return
		case <-tick.C:
		}
		now := n.clock()
		switch pulse := time.Duration(n.pulse.Load()); {
		case pulse >= asked:
			n.conditionOver(loopStands.key)
			asked = now
			n.log.Post(wake{})
		case now-asked > n.cfg.ElectionTimeout: // it was woken, so this is not this timer that is late
			stands := loopStands
			stands.since = time.Now()
			n.condition(stands)
		}
		s := n.view(now)
		lone.look(n, now, s)
		if s.Lease = 0; !s.same(last) {
			n.wakeWatchers()
		}
		last = s
	}
}

// loopStands is the obstacle of a loop that stands still, which the role machine cannot see.
var loopStands = condition{
	key:  conditionKey{kind: string(ObstacleLoop), obstacle: true},
	text: "the goroutine that decides about the role has not run for more than an election timeout",
}

// Watch yields the present status, and then each time State, Token, Epoch, Active, Leader, Err, Obstacles or Problems
// has changed the status of that moment, until ctx ends or the node is closed. It is level-triggered: a
// slow watcher does not see every step in between, but always the last one; epochs that it has missed
// are in [Node.Epochs]. Any number of watchers may run.
func (n *Node) Watch(ctx context.Context) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for {
			changed := *n.changed.Load()
			s := n.Status()
			if !yield(s) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-n.closed:
				if s.State != Failed {
					yield(n.Status())
				}
				return
			}
		}
	}
}

// Epochs returns the history of the cluster, oldest first: who became Active in which epoch, and with
// which record its time began. The last 4,096 epochs are kept at
// least, and those of all records that are held. It answers "why did we fail over, and
// when" together with the records around.
func (n *Node) Epochs() []Epoch { return n.log.Epochs() }
