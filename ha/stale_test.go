package ha

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// TestStatus_WhenTheLoopStandsStill lets the loop wait, which nothing should, and looks at what is
// said of the role meanwhile.
func TestStatus_WhenTheLoopStandsStill(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	n, err := Open(Config{
		Name: "a", Dir: filepath.Join(t.TempDir(), "a"), Cluster: "c", Members: []Member{{Name: "a", Addr: addr}},
		ElectionTimeout: 500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	await := func(what string, ok func(Status) bool) {
		t.Helper()
		timeout := time.After(30 * time.Second)
		seen := make(chan Status)
		over := make(chan struct{})
		defer close(over)
		go func() {
			for s := range n.Watch(t.Context()) { // which must be woken
				select {
				case seen <- s:
				case <-over:
					return
				}
			}
		}()
		for {
			select {
			case s := <-seen:
				if ok(s) {
					return
				}
			case <-timeout:
				t.Fatalf("no watcher saw that %s: %+v", what, n.Status())
			}
		}
	}
	await("the member is active", func(s Status) bool { return s.State == Active })
	token := n.Status().Token
	answer := make(chan error) // of size 0, and the loop waits to be heard
	n.log.Post(become{&wish{active: true, reply: answer}})
	await("the role is over", func(s Status) bool {
		return s.State == Draining && s.Token == (fence.Token{}) && s.Active == "" && s.ActiveAddr == "" && s.Lease == 0
	})
	if err := n.Check(token); err == nil {
		t.Error("Check accepts the token")
	}
	var not *NotActiveError
	if err := n.notActive(); !errors.As(err, &not) || not.Active != "" {
		t.Errorf("clients are sent on with %v", err)
	}
	stands := func(s Status) bool { // beside whatever a busy machine has brought about
		return slices.ContainsFunc(s.Obstacles, func(o Obstacle) bool { return o.Kind == ObstacleLoop })
	}
	await("the loop stands still, and the leader is not known", func(s Status) bool {
		return stands(s) && s.Leader == ""
	})
	<-answer
	await("the loop goes on", func(s Status) bool {
		return !stands(s) && s.State == Active && s.Token.Supersedes(token) && s.Active == "a"
	})
}

// TestStatus_WhoIsActive goes through what is said of a leader and the epoch in force.
func TestStatus_WhoIsActive(t *testing.T) {
	epoch := log.Epoch{Epoch: 7, Holder: "b", Term: 3}
	for _, c := range []struct {
		leader string
		term   uint64
		heard  time.Duration // before now
		want   string
		state  State
	}{
		{"b", 3, 0, "b", Standby},
		{"b", 3, 499 * time.Millisecond, "b", Standby},
		{"b", 3, 501 * time.Millisecond, "", Electing}, // its lease is over
		{"b", 4, 0, "", Standby},                       // elected again, and not active again
		{"a", 3, 0, "", Standby},
		{"", 3, 0, "", Electing},
	} {
		t.Run(fmt.Sprintf("%s leads in term %d, heard %v ago", c.leader, c.term, c.heard), func(t *testing.T) {
			cfg := Config{Name: "c", ElectionTimeout: 500 * time.Millisecond, Members: []Member{{Name: "a", Addr: "A"}, {Name: "b", Addr: "B"}, {Name: "c", Addr: "C"}}}
			n := &Node{cfg: cfg}
			n.changed.Store(new(make(chan struct{})))
			const now = time.Hour
			list := log.Roster{Version: 1, Members: []log.Member{{ID: memberID("a"), Name: "a"}, {ID: memberID("b"), Name: "b"}, {ID: memberID("c"), Name: "c"}}}
			slices.SortFunc(list.Members, func(a, b log.Member) int { return cmp.Compare(a.ID, b.ID) })
			n.enroll(list)
			n.role = newRole(roleConfig{id: memberID("c"), name: "c", roster: list}, epoch) // what was recovered
			lead := log.Leadership{Term: c.term}
			if c.leader != "" {
				lead.Leader = memberID(c.leader)
			}
			n.role.step(now, log.View{}, reported{lead})
			n.publish(now)
			n.pulse.Store(int64(now))
			s := n.viewAt(now, now-c.heard)
			if s.Active != c.want || s.Epoch != 7 || s.State != c.state || (s.ActiveAddr == "B") != (c.want == "b") {
				t.Errorf("epoch %d, active %q at %q, %v; want epoch 7, %q, %v", s.Epoch, s.Active, s.ActiveAddr, s.State, c.want, c.state)
			}
		})
	}
}
