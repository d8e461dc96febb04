package ha

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Problem is something that is wrong and does not end the member. Status shows it while it lasts; the
// log has a line when it begins and one when it is over.
type Problem struct {
	// Kind says what it is about in one word, for programs: README, "Operating", has a table.
	Kind string
	// Peer is the member that it is about, "" if it is this one.
	Peer string
	// Err says what is wrong, as it was said last.
	Err error
	// Since is when it began, by the clock on the wall.
	Since time.Time

	text string // of Err
}

// MarshalJSON writes the problem with lower-case names, the error as a text.
func (p Problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind  string    `json:"kind"`
		Peer  string    `json:"peer,omitempty"`
		Err   string    `json:"error"`
		Since time.Time `json:"since"`
	}{p.Kind, p.Peer, p.Err.Error(), p.Since})
}

// The kinds of problem that this package tells of itself.
const (
	problemBirth    = "birth"
	problemIdentity = "identity"
	problemLoop     = "loop"
)

// problems are those of a node at present. They have a lock of their own and not the loop, so that they are
// told and seen also when that stands still.
type problems struct {
	mu   sync.Mutex // guards everything below
	now  map[problemKey]Problem
	said map[problemKey]*said
}

// said is what the log has of a problem.
type said struct {
	at    time.Time     // when it was said last
	pause time.Duration // before which it is not said again
	times int           // how often there was something to say since
	timer bool          // it will be looked at again at the end of the pause
	open  bool          // what is wrong at present was said
}

// Pauses between two lines about one problem that comes and goes. After ten times the last one without it, it
// is new.
const (
	minSaidPause = time.Second
	maxSaidPause = time.Hour
)

// say reports whether a problem is to be said now, and how often it was there since it was said last; or in
// which time that is to be asked again.
func (s *said) say(now time.Time) (times int, wait time.Duration) {
	if !s.at.IsZero() {
		if wait = s.pause - now.Sub(s.at); wait > 0 {
			return 0, wait
		}
		if now.Sub(s.at) > 10*s.pause {
			s.pause = 0
		}
	}
	times = s.times
	s.at, s.pause, s.times, s.open = now, min(max(2*s.pause, minSaidPause), maxSaidPause), 0, true
	return times, 0
}

type problemKey struct{ kind, peer string }

// maxProblems bounds how many are kept. Their kinds are few, and so are the members.
const maxProblems = 64

// set takes note of a problem, or with a nil error of its end. was is what was known of it before, its Err nil
// if nothing was.
func (p *problems) set(peer, kind string, err error, now time.Time) (was Problem, changed bool) {
	key := problemKey{kind, peer}
	text := ""
	if err != nil {
		text = err.Error() // not under the lock: the error may be the program's
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	was = p.now[key]
	switch {
	case err == nil:
		delete(p.now, key)
		return was, was.Err != nil
	case was.Err != nil && was.text == text:
		return was, false
	case was.Err == nil && len(p.now) >= maxProblems:
		return was, false
	}
	if p.now == nil {
		p.now = make(map[problemKey]Problem)
	}
	next := Problem{Kind: kind, Peer: peer, Err: err, Since: now, text: text}
	if was.Err != nil {
		next.Since = was.Since
	}
	p.now[key] = next
	if p.said == nil {
		p.said = make(map[problemKey]*said)
	}
	if p.said[key] == nil {
		p.said[key] = new(said)
	}
	p.said[key].times++
	p.said[key].open = false
	return was, true
}

// closed reports whether the end of a problem is to be said: its last text was.
func (p *problems) closed(key problemKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.said[key]
	open := s != nil && s.open
	if open {
		s.open = false
	}
	return open
}

// list returns the present ones, by kind and peer.
func (p *problems) list() []Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.now), func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Peer, b.Peer))
	})
}

// problem is told of what is wrong: by the log, by the transport, and by this package. peer is the name of the
// member that it concerns, "" for this one; a nil error says that it is over. It does not block, and may be
// called by anyone at any time.
func (n *Node) problem(peer, kind string, err error) {
	now := time.Now()
	was, changed := n.problems.set(peer, kind, err, now)
	if !changed {
		return
	}
	key := problemKey{kind, peer}
	switch {
	case err != nil:
		n.sayProblem(key, false)
	case n.problems.closed(key):
		n.cfg.Logger.Info("problem over", append(n.about(key), "after", now.Sub(was.Since).Round(time.Millisecond))...)
	}
	n.wakeWatchers()
}

func (n *Node) about(key problemKey) []any {
	args := []any{"member", n.cfg.Name, "kind", key.kind}
	if key.peer != "" {
		args = append(args, "peer", key.peer)
	}
	return args
}

// sayProblem writes a line about a present problem, now or, if it was there a moment ago, at the end of a pause, if it
// is still there then.
func (n *Node) sayProblem(key problemKey, late bool) {
	select {
	case <-n.ended:
		return
	default:
	}
	p := &n.problems
	p.mu.Lock()
	problem, there := p.now[key]
	s := p.said[key]
	if late {
		s.timer = false
	}
	if !there || s.open {
		p.mu.Unlock()
		return
	}
	times, wait := s.say(time.Now())
	if wait > 0 && !s.timer {
		s.timer = true
		time.AfterFunc(wait, func() { n.sayProblem(key, true) })
	}
	p.mu.Unlock()
	if wait > 0 {
		return
	}
	args := n.about(key)
	if times > 1 {
		args = append(args, "times", times)
	}
	n.cfg.Logger.Warn("problem", append(args, "err", problem.Err)...)
}

// wakeWatchers lets those who watch look at the status again.
func (n *Node) wakeWatchers() { close(*n.changed.Swap(new(make(chan struct{})))) }
