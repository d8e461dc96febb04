package core

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/baton-ha/baton/internal/mutant"
)

// Heartbeats may pass where entries do not: a path that swallows large packets, a proxy that has lost one of two
// connections. Then a leader keeps its lease and nothing commits. So a leader that was asked to commit, and whose
// own disk is fine, watches whether anything moves. If nothing does for some election timeouts it gives way:
// it steps down and does not campaign until another had its chance. Raft elects one that has all that was committed, and
// that one may have better connections. If nobody takes over, or it comes back and still nothing moves, it stays longer each
// time: then there is nobody who can do better.

// problemReplication is the kind of [Problem] of entries that do not get to the other members.
const problemReplication = "replication"

const (
	stuckPatience = 4                // election timeouts without progress after which a leader gives way
	slowestBytes  = 4 << 20          // per second: a network that is slower than that is not waited for
	maxGiveWays   = 8                // doublings of the patience
	peerPatience  = 10 * time.Second // beyond that, for one follower that a majority can do without
	standAside    = 3                // election timeouts for which a leader that gave way does not campaign
	forgetGiveWay = 64               // election timeouts of commits after which it has its first patience again
)

// A progress is what a leader knows of how its entries get on.
type progress struct {
	commit  uint64
	movedAt time.Duration // when anything last moved, or there was nothing to commit
	peers   map[uint64]peerProgress
	told    bool // of nothing being committed

	gaveWayAt time.Duration
	givenWay  int // how often, without success in between
}

// A peerProgress is how far one follower is.
type peerProgress struct {
	match   uint64
	movedAt time.Duration
	told    bool
}

// watch looks at the progress, and reports whether the leader should give way.
func (c *Core) watch(now time.Duration) bool {
	p := &c.progress
	commit, last := c.node.BasicStatus().HardState.GetCommit(), uint64(0)
	if commit > p.commit || p.peers == nil {
		p.commit, p.movedAt = commit, now
		if p.peers == nil {
			p.peers = make(map[uint64]peerProgress)
		}
		if now-p.gaveWayAt > forgetGiveWay*c.cfg.ElectionTimeout {
			p.givenWay = 0
		}
		c.tellStuck("")
	}
	var stuck []uint64
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == c.cfg.ID {
			last = pr.Match // what is durable here
		}
	})
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id == c.cfg.ID {
			return
		}
		was, known := p.peers[id]
		moved := !known || pr.Match > was.match || pr.State == tracker.StateSnapshot
		if moved {
			p.movedAt = now
		}
		alive := time.Duration(c.lease.echoes[id].stamp) > now-4*c.cfg.Heartbeat
		if moved || pr.Match >= last || !alive { // one that is not even alive is another problem
			was.movedAt = now
		}
		was.match = pr.Match
		if told := now-was.movedAt > stuckPatience*c.cfg.ElectionTimeout+peerPatience; told != was.told {
			was.told = told
			problem := Problem{Kind: problemReplication, Peer: id}
			if told {
				problem.Err = fmt.Errorf("it answers heartbeats, and has taken no entry for %v: it has %d of %d",
					(now - was.movedAt).Round(time.Millisecond), pr.Match, last)
			}
			c.eff.Changes = append(c.eff.Changes, problem)
		}
		p.peers[id] = was
		if pr.Match <= commit {
			stuck = append(stuck, id)
		}
	})
	if last <= commit || c.unwritten(now) {
		p.movedAt = now // nothing to commit, or it is the own disk
		return false
	}
	waited := now - p.movedAt
	if waited > c.patience(0) {
		c.tellStuck(fmt.Sprintf("nothing was committed for %v, and %d entries wait: not taken by %s",
			waited.Round(time.Millisecond), last-commit, c.members.names(stuck)))
	}
	return waited > c.patience(p.givenWay) && now < c.lease.until && !mutant.On(mutant.NeverGivesWay)
}

// patience is how long a leader waits for anything to move when it has given way so often before. Large records may
// take their time.
func (c *Core) patience(givenWay int) time.Duration {
	base := stuckPatience*c.cfg.ElectionTimeout + timeFor(c.heldBytes, slowestBytes)
	return base << min(givenWay, maxGiveWays)
}

// tellStuck tells that nothing commits, or with an empty text that it is over.
func (c *Core) tellStuck(text string) {
	if told := text != ""; told != c.progress.told {
		c.progress.told = told
		problem := Problem{Kind: problemReplication}
		if told {
			problem.Err = fmt.Errorf("baton: %s", text)
		}
		c.eff.Changes = append(c.eff.Changes, problem)
	}
}

// giveWay steps down. Raft does so when it finds, twice in a row, that no majority has answered since it looked
// last; so it is told that much time has passed.
func (c *Core) giveWay(now time.Duration) {
	c.progress.givenWay++
	c.progress.gaveWayAt = now
	wait := c.cfg.ElectionTimeout
	for _, e := range c.lease.echoes {
		wait = max(wait, e.length)
	}
	c.lease.released = max(c.lease.stamp, 1)
	c.owed.forgive()
	c.setLease(0)
	for range 2 * (c.electionTicks() + 1) {
		c.node.Tick()
	}
	c.look(now)
	c.electAt = now + standAside*wait + c.random(c.cfg.ElectionTimeout)
}

// endProgress forgets what a leadership knew.
func (c *Core) endProgress() {
	for _, id := range c.members.voters.all() {
		if c.progress.peers[id].told {
			c.eff.Changes = append(c.eff.Changes, Problem{Kind: problemReplication, Peer: id})
		}
	}
	c.progress.peers = nil
	if c.leader != 0 && c.leader != c.cfg.ID {
		c.tellStuck("") // it is another's now
	}
}
