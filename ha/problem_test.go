package ha

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestProblems_BeginAreSeenAndEnd(t *testing.T) {
	var out bytes.Buffer
	n := &Node{cfg: Config{Name: "a", Logger: slog.New(slog.NewTextHandler(&out, nil))}}
	n.changed.Store(new(make(chan struct{})))
	woken := func(f func()) bool {
		t.Helper()
		changed := *n.changed.Load()
		f()
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	for i, c := range []struct {
		peer, kind string
		err        error
		wakes      bool
		want       string
	}{
		{"b", "replication", errors.New("stands"), true, "replication/b:stands"},
		{"", "checkpoint", errors.New("no space"), true, "checkpoint/:no space replication/b:stands"},
		{"b", "replication", errors.New("stands"), false, "checkpoint/:no space replication/b:stands"},
		{"b", "replication", errors.New("crawls"), true, "checkpoint/:no space replication/b:crawls"},
		{"c", "replication", nil, false, "checkpoint/:no space replication/b:crawls"},
		{"b", "replication", nil, true, "checkpoint/:no space"},
		{"", "checkpoint", nil, true, ""},
	} {
		if got := woken(func() { n.problem(c.peer, c.kind, c.err) }); got != c.wakes {
			t.Errorf("%d: watchers woken: %v, want %v", i, got, c.wakes)
		}
		var have []string
		for _, p := range problems(n) {
			have = append(have, fmt.Sprintf("%s/%s:%v", p.Kind, p.Peer, p.Err))
		}
		if got := strings.Join(have, " "); got != c.want {
			t.Errorf("%d: problems %q, want %q", i, got, c.want)
		}
	}
	n.sayCondition(conditionKey{kind: "replication", peer: "b"}, true) // it is over
	if begun, over := strings.Count(out.String(), "level=WARN msg=problem"), strings.Count(out.String(), `msg="problem over"`); begun != 2 || over != 1 {
		t.Errorf("%d lines of a beginning and %d of an end, want 2 of one and, since the last text of the other was not said yet, 1 of an end:\n%s", begun, over, out.String())
	}
	for i := range 2 * maxConditions {
		n.problem(fmt.Sprint(i), "replication", errors.New("stands"))
	}
	if got := len(problems(n)); got != maxConditions {
		t.Errorf("%d problems are kept, want %d", got, maxConditions)
	}
}

// TestCondition_Asked: what somebody has asked for is said, and is no warning.
func TestCondition_Asked(t *testing.T) {
	var out bytes.Buffer
	n := &Node{cfg: Config{Name: "a", Logger: slog.New(slog.NewTextHandler(&out, nil))}}
	n.changed.Store(new(make(chan struct{})))
	for kind, level := range map[ObstacleKind]string{ObstacleAway: "INFO", ObstacleSick: "WARN"} {
		out.Reset()
		n.condition(condition{key: conditionKey{kind: string(kind), obstacle: true}, text: "a new kernel", since: time.Now()})
		if line := out.String(); !strings.Contains(line, "level="+level+" msg=obstacle ") || !strings.Contains(line, "kind="+string(kind)) {
			t.Errorf("%s is to be said at %s: %s", kind, level, line)
		}
	}
}

func problems(n *Node) []Problem {
	_, problems := n.conditions.list()
	return problems
}

// TestProblems_ThatComeAndGoAreCounted: the log grows with the logarithm of what happens.
func TestProblems_ThatComeAndGoAreCounted(t *testing.T) {
	var s said
	now := time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC)
	lines, counted := 0, 0
	for range 24 * 3600 * 2 {
		now = now.Add(500 * time.Millisecond)
		s.times++
		if times, wait := s.say(now); wait == 0 {
			lines, counted = lines+1, counted+times
		}
	}
	if lines < 12 || lines > 40 || counted+s.times != 24*3600*2 {
		t.Errorf("%d lines in a day speak of %d, and %d are left", lines, counted, s.times)
	}
	s.times = 1
	now = now.Add(11 * maxSaidPause)
	if _, wait := s.say(now); wait != 0 || s.pause != minSaidPause {
		t.Errorf("after a long silence: wait %v, pause %v", wait, s.pause)
	}
}

func TestProblems_InJSON(t *testing.T) {
	since := time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC)
	s := Status{Name: "a", State: Standby, Problems: []Problem{{Kind: "replication", Peer: "b", Err: errors.New("stands"), Since: since}}}
	got, err := json.Marshal(s)
	if want := `"problems":[{"kind":"replication","peer":"b","error":"stands","since":"2026-11-25T21:00:00Z"}]`; err != nil || !bytes.Contains(got, []byte(want)) {
		t.Errorf("%s, %v; want %s in it", got, err, want)
	}
}
