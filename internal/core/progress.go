package core

import (
	"fmt"
	"maps"
	"slices"
	"time"
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
	caughtUp      = 1024             // entries that one may lack that has caught up
	forgetGiveWay = 64               // election timeouts of commits after which it has its first patience again
)

// A progress is what a leader knows of how its entries get on.
type progress struct {
	timing
	commit  uint64
	movedAt time.Duration // when anything last moved, or there was nothing to commit
	peers   map[uint64]peerProgress
	told    bool // of nothing being committed

	gaveWayAt time.Duration
	givenWay  int // how often, without success in between

	problems []Problem // that have come up, or are over, since take
}

// A peerProgress is how far one follower is.
type peerProgress struct {
	match    uint64
	movedAt  time.Duration
	snapshot uint64 // raft index of the last one that it was sent, since it had all; 0: none
	outrun   bool   // more is appended than it takes, and it has not had all since
	told     bool
}

// A sight is what a leader sees of its entries at a moment.
type sight struct {
	commit uint64 // the last that is committed
	last   uint64 // the last that is durable here
	bytes  int    // that wait to be committed
	busy   bool   // the own disk is what is waited for
	peers  []sighted
}

// A sighted is a follower.
type sighted struct {
	id        uint64
	match     uint64 // the last entry it is known to have
	restoring bool   // it is sent a snapshot
	snapshot  uint64 // the raft index of that
	outrun    bool   // it comes no nearer beside appends
	observes  bool   // it has no vote: nothing is committed by it, however it gets on
	alive     bool
}

// take returns the problems that have come up, or are over, since it was called last.
func (p *progress) take() []Problem {
	problems := p.problems
	p.problems = nil
	return problems
}

// watch looks at the progress, and returns for how long nothing has moved although something waits to be committed; 0 if all
// is well.
func (p *progress) watch(now time.Duration, s sight, names func([]uint64) string) time.Duration {
	if s.commit > p.commit || p.peers == nil {
		p.commit, p.movedAt = s.commit, now
		if p.peers == nil {
			p.peers = make(map[uint64]peerProgress)
		}
		if now-p.gaveWayAt > forgetGiveWay*p.election {
			p.givenWay = 0
		}
		p.tell("")
	}
	var stuck []uint64
	for _, f := range s.peers {
		p.follow(now, f, s.last)
		if f.match <= s.commit && !f.observes {
			stuck = append(stuck, f.id)
		}
	}
	if s.last <= s.commit || s.busy {
		p.movedAt = now // nothing to commit, or it is the own disk
		return 0
	}
	waited := now - p.movedAt
	if waited > p.patience(0, s.bytes) {
		p.tell(fmt.Sprintf("nothing was committed for %v, and %d entries wait: not taken by %s",
			waited.Round(time.Millisecond), s.last-s.commit, names(stuck)))
	}
	return waited
}

// follow looks at one follower, of a log that ends at last.
func (p *progress) follow(now time.Duration, f sighted, last uint64) {
	was, known := p.peers[f.id]
	moved := !known || f.match > was.match || f.restoring
	if moved && !f.observes {
		p.movedAt = now
	}
	if moved || f.match >= last || !f.alive { // one that is not even alive is another problem
		was.movedAt = now
	}
	was.match = f.match
	switch {
	case f.match+caughtUp >= last:
		was.snapshot, was.outrun = 0, false
	case f.outrun, f.restoring && was.snapshot != 0 && f.match >= was.snapshot: // it had that one, and the log behind it was gone
		was.outrun = true
	}
	if f.restoring {
		was.snapshot = f.snapshot
	}
	stuck := now-was.movedAt > stuckPatience*p.election+peerPatience
	if told := stuck || was.outrun; told != was.told {
		was.told = told
		problem := Problem{Kind: problemReplication, Peer: f.id}
		switch {
		case stuck:
			problem.Err = fmt.Errorf("it answers heartbeats, and has taken no entry for %v: it has %d of %d",
				(now - was.movedAt).Round(time.Millisecond), f.match, last)
		case told:
			problem.Err = fmt.Errorf("more is appended than it takes, and it comes no nearer: it has %d of %d", f.match, last)
		}
		p.problems = append(p.problems, problem)
	}
	p.peers[f.id] = was
}

// givesWay reports whether the leader should give way, for whom nothing has moved for so long.
func (p *progress) givesWay(waited time.Duration, bytes int) bool {
	return waited > p.patience(p.givenWay, bytes)
}

// gaveWay takes note that it has.
func (p *progress) gaveWay(now time.Duration) {
	p.givenWay++
	p.gaveWayAt = now
}

// patience is how long a leader waits for anything to move when it has given way so often before. Large records may
// take their time.
func (p *progress) patience(givenWay, bytes int) time.Duration {
	base := stuckPatience*p.election + timeFor(bytes, slowestBytes)
	return base << min(givenWay, maxGiveWays)
}

// tell tells that nothing commits, or with an empty text that it is over.
func (p *progress) tell(text string) {
	if told := text != ""; told != p.told {
		p.told = told
		problem := Problem{Kind: problemReplication}
		if told {
			problem.Err = fmt.Errorf("baton: %s", text)
		}
		p.problems = append(p.problems, problem)
	}
}

// end forgets what a leadership knew of the others. others: another member leads now.
func (p *progress) end(others bool) {
	for _, id := range slices.Sorted(maps.Keys(p.peers)) {
		if p.peers[id].told {
			p.problems = append(p.problems, Problem{Kind: problemReplication, Peer: id})
		}
	}
	p.peers = nil
	if others {
		p.tell("")
	}
}
