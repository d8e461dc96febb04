package ha

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// This file says when a member knows of no leader for longer than an election takes: nobody can be Active then, and an operator who reads the
// log wants to know for whom the cluster waits.

// problemLeader is the kind of problem of a member that knows of no leader.
const problemLeader = "leader"

// leaderlessFor is for how many election timeouts nobody may be known to lead before that is a problem: who does not answer is known to be
// dead by then.
const leaderlessFor = 4

// A leaderless is since when no leader is known although as many voters are there as now, enough or not. It is owned by whoever watches the loop.
type leaderless struct {
	since  time.Duration
	enough bool
}

// look judges a status, and shows the problem or its end.
func (l *leaderless) look(n *Node, now time.Duration, s Status) {
	if _, unborn := n.birth.says(); unborn || s.Leader != "" || s.State == Failed || s.State == Joining {
		l.since = 0
		n.problem("", problemLeader, nil)
		return
	}
	text, enough := n.missedVoters()
	if l.since == 0 || enough != l.enough {
		l.since, l.enough = now, enough
	}
	if now-l.since > leaderlessFor*n.cfg.ElectionTimeout {
		n.problem("", problemLeader, errors.New(text))
	}
}

// missedVoters says for which voters an election waits, and whether enough are there.
func (n *Node) missedVoters() (text string, enough bool) {
	voters, missed := 0, []string(nil)
	for _, m := range n.Members() {
		if m.Kind == KindObserver {
			continue
		}
		voters++
		if m.Name != n.cfg.Name && m.Liveness != Alive && m.Liveness != Suspect {
			missed = append(missed, m.Name)
		}
	}
	here, needed := voters-len(missed), voters/2+1
	if here >= needed {
		return fmt.Sprintf("nobody leads, although %d of %d voters are there", here, voters), true
	}
	return fmt.Sprintf("nobody leads: %d of %d voters must be there, and %s cannot be heard", needed, voters, strings.Join(missed, ", ")), false
}
