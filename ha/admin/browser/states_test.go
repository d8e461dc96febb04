package browser

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin"
	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

var states = flag.String("states", "", "a directory to write a picture of the page in each state to, light and dark, wide and narrow")

// TestStates makes pictures to be looked at by a person who has changed the page: one of each state that a cluster can be in.
func TestStates(t *testing.T) {
	if *states == "" {
		t.Skip("see -states")
	}
	if err := os.MkdirAll(*states, 0o755); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	is := func(s *fake.Said, i int, state ha.State) *ha.MemberStatus {
		s.Members[i].State = state
		if s.Members[i].Name == s.Status.Name {
			s.Status.State = state
		}
		return &s.Members[i]
	}
	nobody := func(s *fake.Said) {
		s.Status.Active, s.Status.ActiveAddr, s.Status.Leader, s.Status.Lease = "", "", "", 0
	}
	gone := func(m *ha.MemberStatus, l ha.Liveness) {
		m.Liveness, m.State, m.Heard, m.RoundTrip = l, 0, now.Add(-70*time.Second), 0
	}
	for _, x := range []struct {
		name, path string
		open       bool // what is folded
		still      bool // without JavaScript
		said       func(s *fake.Said)
	}{
		{name: "active", said: func(s *fake.Said) { s.Status.Lease = 380 * time.Millisecond }},
		{name: "standby", said: func(s *fake.Said) {
			*s = fake.Three("b", 12)
			s.Events["b"] = history("b", 1, 400)
		}},
		{name: "menus", open: true, said: func(s *fake.Said) { gone(&s.Members[2], ha.Dead) }},
		{name: "first", said: func(s *fake.Said) {
			*s = fake.Three("", 0)
			nobody(s)
			s.Status.Index, s.Status.Applied = 0, 0
			for i := range s.Members {
				is(s, i, ha.Electing)
				s.Members[i].Index, s.Members[i].Applied, s.Members[i].Program = 0, 0, ""
				if i > 0 {
					s.Members[i] = ha.MemberStatus{Name: s.Members[i].Name, Addr: s.Members[i].Addr, Kind: ha.KindVoter, Liveness: ha.Dead}
				}
			}
		}},
		{name: "majority-lost", said: func(s *fake.Said) {
			nobody(s)
			is(s, 0, ha.Electing).Obstacles = []ha.Obstacle{{Kind: ha.ObstacleLagging, Text: "it is 12,000 records behind the leader, and may be 1,000", Since: now.Add(-20 * time.Second)}}
			gone(&s.Members[1], ha.Dead)
			gone(&s.Members[2], ha.Left)
			s.Status.Problems = []ha.Problem{{Kind: "unreachable", Peer: "b", Err: errors.New("dial tcp 10.0.0.2:7000: connect: connection refused"), Since: now.Add(-70 * time.Second)}}
			s.Events["a"] = history("a", 1, 40)
		}},
		{name: "one-gone", said: func(s *fake.Said) { gone(&s.Members[1], ha.Suspect) }},
		{name: "obstacles", said: func(s *fake.Said) {
			is(s, 1, ha.Standby).Obstacles = []ha.Obstacle{
				{Kind: ha.ObstacleSick, Text: "the health check has failed 3 times: database: connection refused", Since: now.Add(-time.Minute)},
				{Kind: ha.ObstacleAway, Text: "it was asked to stay away: new disk", Since: now.Add(-26 * time.Hour)},
				{Kind: ha.ObstacleCoolDown, Text: "its role ended 3 times in a minute", Since: now, Until: now.Add(30 * time.Second)},
			}
			s.Status.Problems = []ha.Problem{
				{Kind: "disk", Err: errors.New("write /var/lib/shop/log/0000000000000012-00000000000a3f10.wal: no space left on device"), Since: now.Add(-time.Hour)},
				{Kind: "clock", Peer: "c", Err: errors.New("its clock is 3.2 s ahead"), Since: now.Add(-time.Hour)},
			}
		}},
		{name: "failed", said: func(s *fake.Said) {
			is(s, 0, ha.Failed)
			s.Status.Active = "b"
			is(s, 1, ha.Active)
			s.Status.Err = errors.New("open /var/lib/shop: the log is damaged: segment 0000000000000012-00000000000a3f10.wal, offset 1,048,576: the checksum does not match (baton verify /var/lib/shop says what is left)")
		}},
		{name: "joining", said: func(s *fake.Said) {
			s.Members = append(s.Members,
				ha.MemberStatus{Name: "d", Addr: "10.0.0.4:7000", Kind: ha.KindObserver, Joining: true, Becomes: ha.KindVoter, Liveness: ha.Alive, State: ha.Joining, Epoch: 7, Heard: now, RoundTrip: 400 * time.Microsecond, Lag: 31_000, LagTime: 12 * time.Second},
				ha.MemberStatus{Name: "w", Addr: "10.0.0.5:7000", Kind: ha.KindArbiter, Liveness: ha.Alive, State: ha.Arbiter, Epoch: 7, Heard: now, RoundTrip: 12 * time.Millisecond},
				ha.MemberStatus{Name: "o", Addr: "10.0.0.6:7000", Kind: ha.KindObserver, Liveness: ha.Alive, State: ha.Observer, Epoch: 7, Heard: now, RoundTrip: 80 * time.Millisecond})
			s.Status.Snapshots = []ha.Underway{{Peer: "d", Sends: true, Bytes: 512 << 20, Size: 2 << 30, Since: now.Add(-12 * time.Second)}}
			for i := range 5 {
				s.Workers = append(s.Workers, ha.WorkerStatus{Name: fmt.Sprint("worker-", i), Addr: fmt.Sprintf("10.0.1.%d:9000", i), Text: "120 jobs, load 0.4", Liveness: ha.Liveness(1 + i%4), Since: now.Add(-time.Hour), Heard: now})
			}
		}},
		{name: "hand-over", said: func(s *fake.Said) {
			nobody(s)
			is(s, 0, ha.Draining)
			is(s, 1, ha.Activating)
			s.Events["a"] = history("a", 1, 11)
		}},
		{name: "closed", said: func(s *fake.Said) { is(s, 0, ha.Failed); nobody(s) }},
		{name: "zoo", said: func(s *fake.Said) { *s = zoo() }},
		{name: "still", still: true, said: func(s *fake.Said) {}},
		{name: "timeline", path: "timeline", said: func(s *fake.Said) { s.Events["a"] = history("a", 1, 60) }},
	} {
		s := fake.Three("a", 7)
		x.said(&s)
		url := serve(t, fake.New(s), admin.Config{Authorize: admin.FromLoopback})
		for _, look := range []struct {
			name  string
			width int64
			dark  bool
		}{{"wide-light", 1180, false}, {"wide-dark", 1180, true}, {"phone-light", 390, false}, {"phone-dark", 390, true}} {
			b := newTab(t, look.width, 844, look.dark)
			if x.still {
				call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
			}
			b.open(url + x.path)
			if !x.still && x.path == "" {
				b.live()
			}
			if x.open {
				eval[bool](b, `document.querySelectorAll("details").forEach(d => d.open = true), true`)
			}
			time.Sleep(100 * time.Millisecond)
			b.shot(filepath.Join(*states, x.name+"-"+look.name+".png"), true)
		}
	}
}
