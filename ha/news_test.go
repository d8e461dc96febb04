package ha

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/transport"
)

func sampleNews() news {
	return news{
		leaving: true, obeys: true, state: Draining, epoch: 1 << 40, index: 7, applied: 5, every: 500 * time.Millisecond,
		obstacles: []newsObstacle{{ObstacleCoolDown, "OnActive: sick", time.Second, time.Minute}, {ObstacleStarved, "", 0, 0}},
		newsMore:  newsMore{lag: 3 * time.Second, protocol: 9, program: "shop v1.2.3"},
	}
}

func TestNews_ComeAsTheyWereSaid(t *testing.T) {
	said := sampleNews()
	b := said.encode(nil)
	for _, tail := range []string{"", "of a later version"} {
		if got, err := decodeNews(append(bytes.Clone(b), tail...)); err != nil || !reflect.DeepEqual(got, said) {
			t.Errorf("%+v, %v; want %+v", got, err, said)
		}
	}
	more := len(b) - newsMoreHead - len(said.program)
	if got, err := decodeNews(b[:more]); err != nil || got.newsMore != (newsMore{}) || got.index != said.index {
		t.Errorf("of a version that says no more: %+v, %v", got, err)
	}
	for i := range b {
		if _, err := decodeNews(b[:i]); i != more && !errors.Is(err, errNews) {
			t.Errorf("the first %d bytes of %d: %v", i, len(b), err)
		}
	}
	long := news{every: 1, newsMore: newsMore{program: strings.Repeat("p", 1000)}}
	for range 2 * maxNewsObstacles {
		long.obstacles = append(long.obstacles, newsObstacle{kind: ObstacleKind(strings.Repeat("k", 100)), text: strings.Repeat("t", 1000)})
	}
	b = long.encode(nil)
	if got, err := decodeNews(b); err != nil || len(b) != maxNews-newsToCome || len(got.obstacles) != maxNewsObstacles {
		t.Errorf("what is too long makes %d bytes of at most %d, and %d obstacles: %v", len(b), maxNews-newsToCome, len(got.obstacles), err)
	}
	for at, v := range map[int]byte{0: 2, 27: 0xff, 35: maxNewsObstacles + 1, 36: maxNewsKind + 1} {
		bad := bytes.Clone(b)
		if bad[at] = v; func() bool { _, err := decodeNews(bad); return err == nil }() {
			t.Errorf("byte %d is %d, and nobody minds", at, v)
		}
	}
}

func FuzzNews(f *testing.F) {
	s := sampleNews()
	f.Add(s.encode(nil))
	f.Add((&news{every: 1}).encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeNews(b)
		if err != nil {
			return
		}
		again, err := decodeNews(s.encode(nil))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%+v becomes %+v, %v", s, again, err)
		}
		s.here(time.Hour)
	})
}

// TestHearsay_Liveness goes through what is said of a member by what has come from it.
func TestHearsay_Liveness(t *testing.T) {
	const every, hour = 100 * time.Millisecond, time.Hour
	st := new(transport.Stream)
	for _, c := range []struct {
		said  *news // nil: nothing yet
		after time.Duration
		ends  bool // the stream
		want  string
	}{
		{nil, 0, false, "Suspect Unknown 0"},
		{nil, 3 * every, false, "Suspect Unknown 0"},
		{nil, 4 * every, false, "Dead Unknown 0"},
		{&news{state: Active}, every, false, "Alive Active 0"},
		{&news{state: Active}, 2 * every, false, "Suspect Active 0"},
		{&news{state: Active}, 3 * every, false, "Suspect Active 0"},
		{&news{state: Active}, 4 * every, false, "Dead Unknown 0"},
		{&news{state: Active}, 0, true, "Suspect Active 0"},
		{&news{state: Failed}, 0, false, "Dead Unknown 0"},
		{&news{state: Failed, leaving: true}, 0, true, "Left Failed 0"},
		{&news{state: Failed, leaving: true}, hour, true, "Left Failed 0"},
		{&news{state: Standby, obstacles: []newsObstacle{{kind: ObstacleCoolDown, left: every}, {kind: ObstacleStarved}}}, every - 1, false, "Alive Standby 2"},
		{&news{state: Standby, obstacles: []newsObstacle{{kind: ObstacleCoolDown, left: every}, {kind: ObstacleStarved}}}, every, false, "Alive Standby 1"},
	} {
		h := hearsay{began: hour, every: every}
		h.speaks("b", nil, st)
		if c.said == nil {
			h.speaks("b", st, nil)
		} else {
			c.said.every = every
			h.take("b", st, *c.said, hour)
		}
		if c.ends {
			h.speaks("b", st, nil)
		}
		s := MemberStatus{Name: "b"}
		h.tell(&s, hour+c.after)
		if got := fmt.Sprint(s.Liveness, s.State, len(s.Obstacles)); got != c.want {
			t.Errorf("%+v, %v ago, stream ended %v: %s, want %s", c.said, c.after, c.ends, got, c.want)
		}
	}
}

// TestHearsay_OldStream: what a process says that was replaced by another one counts no more.
func TestHearsay_OldStream(t *testing.T) {
	h := hearsay{began: 1, every: 1}
	old, st := new(transport.Stream), new(transport.Stream)
	h.speaks("b", nil, old)
	h.speaks("b", nil, st)
	if _, changed := h.take("b", st, news{every: 1, obstacles: []newsObstacle{{kind: ObstacleStarved}}}, 2); !changed {
		t.Error("a new obstacle is not noticed")
	}
	if _, changed := h.take("b", old, news{every: 1, leaving: true}, 3); changed {
		t.Error("the old process is listened to")
	}
	h.speaks("b", old, nil)
	s := MemberStatus{Name: "b"}
	if h.tell(&s, 2); s.Liveness != Alive {
		t.Errorf("%v, although its new process speaks", s.Liveness)
	}
	if _, changed := h.take("b", st, news{every: 1, obstacles: []newsObstacle{{kind: ObstacleStarved, text: "more"}}}, 4); changed {
		t.Error("the same obstacle is told again")
	}
	if _, changed := h.take("b", st, news{every: 1}, 5); !changed {
		t.Error("the end of an obstacle is not noticed")
	}
}
