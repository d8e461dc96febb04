package ha

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// This file keeps what Status shows beside the role: what is wrong with a member, as its obstacles and its problems. Both begin,
// say something else, and end; the log has lines of that.

// A condition is an [Obstacle] of this member or a [Problem].
type condition struct {
	key          conditionKey
	text         string
	err          error
	since, until time.Time
}

type conditionKey struct {
	kind, peer string
	obstacle   bool
}

// name is how the log calls it.
func (k conditionKey) name() string {
	if k.obstacle {
		return "obstacle"
	}
	return "problem"
}

// quiet reports whether the log need not tell of it.
func (k conditionKey) quiet() bool { return k.obstacle && ObstacleKind(k.kind).quiet() }

// level is how loud the log says it: what somebody has asked for is no warning.
func (k conditionKey) level() slog.Level {
	if k.obstacle && k.kind == string(ObstacleAway) {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// settles is how long the log waits until it tells of it. Of a peer that is cut off one connection is found stuck after the other; a member that starts has
// something to catch up; and one that is not listed any more ends, and says so.
func (k conditionKey) settles() time.Duration {
	if k.stuck() || k.obstacle && (k.kind == string(ObstacleLagging) || k.kind == string(ObstacleJoining)) {
		return 1500 * time.Millisecond
	}
	return 0
}

// stuck reports whether it is that a peer takes nothing. On which of its connections is no news.
func (k conditionKey) stuck() bool { return !k.obstacle && k.kind == problemConnection }

// conditionOf is an obstacle of the role machine as a condition.
func conditionOf(o obstacle, now time.Duration) condition {
	w := onWallOne(o, now)
	return condition{key: conditionKey{kind: string(o.kind), obstacle: true}, text: o.text, err: o.err, since: w.Since, until: w.Until}
}

// onWallOne is an obstacle of the role machine by the clock on the wall. now is on the member's.
func onWallOne(o obstacle, now time.Duration) Obstacle {
	wall := time.Now()
	at := func(t time.Duration) time.Time {
		if t == 0 {
			return time.Time{}
		}
		return wall.Add(t - now).Round(0)
	}
	return Obstacle{Kind: o.kind, Text: o.text, Err: o.err, Since: at(o.since), Until: at(o.until)}
}

// onWall is onWallOne for those of some members.
func onWall(of map[string][]obstacle, now time.Duration) map[string][]Obstacle {
	all := make(map[string][]Obstacle, len(of))
	for name, list := range of {
		for _, o := range list {
			all[name] = append(all[name], onWallOne(o, now))
		}
	}
	return all
}

// conditions are those of a node at present. They have a lock of their own and not the loop, so that they are
// told and seen also when that stands still. Nothing is done under it but looking things up.
type conditions struct {
	mu   sync.Mutex // guards everything below
	now  map[conditionKey]condition
	said map[conditionKey]*said
}

// said is what the log has of a condition.
type said struct {
	at    time.Time     // when it was said last
	pause time.Duration // before which it is not said again
	least time.Duration // of that; 0: minSaidPause
	times int           // how often there was something to say since
	timer bool          // it will be looked at again at the end of the pause
	open  bool          // what stands at present was said
}

// Pauses between two lines about one condition that comes and goes. After ten times the last one without it, it
// is new.
const (
	minSaidPause = time.Second
	maxSaidPause = time.Hour
)

// say reports whether a condition is to be said now, and how often it was there since it was said last; or in
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
	s.at, s.pause, s.times, s.open = now, min(max(2*s.pause, cmp.Or(s.least, minSaidPause)), maxSaidPause), 0, true
	return times, 0
}

// maxConditions bounds how many are kept. Their kinds are few, and so are the members.
const maxConditions = 64

// set takes note of a condition, and reports whether it is new or says something else than before.
func (c *conditions) set(next condition) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, there := c.now[next.key]
	switch {
	case there && was.text == next.text && was.until.Equal(next.until):
		return false
	case !there && len(c.now) >= maxConditions:
		return false
	case there:
		next.since = was.since
	}
	if c.now == nil {
		c.now, c.said = make(map[conditionKey]condition), make(map[conditionKey]*said)
	}
	c.now[next.key] = next
	if c.said[next.key] == nil {
		c.said[next.key] = new(said)
	}
	c.said[next.key].times++
	c.said[next.key].open = there && c.said[next.key].open && next.key.stuck()
	return true
}

// clear takes note of an end. It reports since when it was there, if it was, and whether the log has its last text.
func (c *conditions) clear(key conditionKey) (since time.Time, there, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, there := c.now[key]
	if !there {
		return since, false, false
	}
	delete(c.now, key)
	told, c.said[key].open = c.said[key].open, false
	return was.since, true, told
}

// list returns the present ones, by kind and peer: the obstacles, and the problems.
func (c *conditions) list() (obstacles []Obstacle, problems []Problem) {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.now))
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b condition) int {
		return cmp.Or(cmp.Compare(a.key.kind, b.key.kind), cmp.Compare(a.key.peer, b.key.peer))
	})
	for _, x := range all {
		if x.key.obstacle {
			obstacles = append(obstacles, Obstacle{Kind: ObstacleKind(x.key.kind), Text: x.text, Err: x.err, Since: x.since, Until: x.until})
		} else {
			problems = append(problems, Problem{Kind: x.key.kind, Peer: x.key.peer, Err: x.err, Since: x.since})
		}
	}
	return obstacles, problems
}

// condition shows a condition from now on. It does not block.
func (n *Node) condition(c condition) {
	if !n.conditions.set(c) {
		return
	}
	n.tellCondition(c.key, c.text)
	if !c.key.quiet() {
		n.sayCondition(c.key, false)
	}
	n.wakeWatchers()
}

// conditionOver shows it no more. It does not block.
func (n *Node) conditionOver(key conditionKey) {
	since, there, told := n.conditions.clear(key)
	if !there {
		return
	}
	n.tellCondition(key, "")
	if told {
		n.cfg.Logger.Info(key.name()+" over", append(n.about(key), "after", time.Since(since).Round(time.Millisecond))...)
	}
	n.wakeWatchers()
}

func (n *Node) about(key conditionKey) []any {
	args := []any{"member", n.cfg.Name, "kind", key.kind}
	if key.peer != "" {
		args = append(args, "peer", key.peer)
	}
	return args
}

// sayCondition writes a line about a present condition, now or, if it was there a moment ago, at the end of a pause, if it
// is still there then.
func (n *Node) sayCondition(key conditionKey, late bool) {
	select {
	case <-n.ended:
		return
	default:
	}
	c := &n.conditions
	c.mu.Lock()
	present, there := c.now[key]
	s := c.said[key]
	if late {
		s.timer = false
	}
	if !there || s.open {
		c.mu.Unlock()
		return
	}
	times, wait := 0, key.settles()-time.Since(present.since)
	if wait <= 0 {
		times, wait = s.say(time.Now())
	}
	if wait > 0 && !s.timer {
		s.timer = true
		time.AfterFunc(wait, func() { n.sayCondition(key, true) })
	}
	c.mu.Unlock()
	if wait > 0 {
		return
	}
	args := n.about(key)
	if times > 1 {
		args = append(args, "times", times)
	}
	if !present.until.IsZero() {
		args = append(args, "until", present.until)
	}
	args = append(args, "err", strings.TrimPrefix(strings.TrimPrefix(present.text, "baton: "), "transport: "))
	n.cfg.Logger.Log(context.Background(), key.level(), key.name(), args...)
}

// wakeWatchers lets those who watch look at the status again.
func (n *Node) wakeWatchers() { close(*n.changed.Swap(new(make(chan struct{})))) }
