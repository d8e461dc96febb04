// Package fake has a member that says of itself and of its cluster whatever a test wants.
package fake

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/ha"
)

// A Node implements admin.Node. Change it by Set.
type Node struct {
	mu      sync.Mutex // guards what follows
	said    Said
	asked   []string
	changed chan struct{}
	closed  bool
}

// Said is what a node says, and how it answers.
type Said struct {
	Cluster string
	Status  ha.Status
	Members []ha.MemberStatus
	Workers []ha.WorkerStatus
	Epochs  []ha.Epoch
	Events  map[string][]ha.Event // by member; one that is not there is not reached
	Stats   ha.Stats
	Err     error // of whatever it is asked to do
}

// New returns a node.
func New(said Said) *Node { return &Node{said: said, changed: make(chan struct{})} }

// Set changes what the node says, and tells who watches.
func (n *Node) Set(change func(*Said)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.said)
	close(n.changed)
	n.changed = make(chan struct{})
}

// Close ends Watch, as that of a closed node does.
func (n *Node) Close() {
	n.Set(func(*Said) { n.closed = true })
}

// Asked returns what the node was asked to do.
func (n *Node) Asked() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func (n *Node) now() (said Said, changed <-chan struct{}, closed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	said = n.said
	said.Members, said.Workers, said.Epochs = slices.Clone(said.Members), slices.Clone(said.Workers), slices.Clone(said.Epochs)
	said.Events = maps.Clone(said.Events)
	return said, n.changed, n.closed
}

func (n *Node) ask(what string, args ...any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, strings.TrimSpace(what+" "+strings.TrimSuffix(fmt.Sprintln(args...), "\n")))
	return n.said.Err
}

func (n *Node) Cluster() string            { s, _, _ := n.now(); return s.Cluster }
func (n *Node) Status() ha.Status          { s, _, _ := n.now(); return s.Status }
func (n *Node) Members() []ha.MemberStatus { s, _, _ := n.now(); return s.Members }
func (n *Node) Workers() []ha.WorkerStatus { s, _, _ := n.now(); return s.Workers }
func (n *Node) Epochs() []ha.Epoch         { s, _, _ := n.now(); return s.Epochs }
func (n *Node) Stats() ha.Stats            { s, _, _ := n.now(); return s.Stats }

// EventsOf yields the events of a member and then those that are added.
func (n *Node) EventsOf(ctx context.Context, member string, follow bool) iter.Seq2[ha.Event, error] {
	return func(yield func(ha.Event, error) bool) {
		for given := 0; ; {
			s, changed, _ := n.now()
			events, ok := s.Events[member]
			if !ok {
				yield(ha.Event{}, fmt.Errorf("%s is not reached", member))
				return
			}
			for ; given < len(events); given++ {
				if !yield(events[given], nil) {
					return
				}
			}
			if !follow {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(ha.Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// Watch yields the status whenever something has changed.
func (n *Node) Watch(ctx context.Context) iter.Seq[ha.Status] {
	return func(yield func(ha.Status) bool) {
		for {
			s, changed, closed := n.now()
			if closed || !yield(s.Status) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (n *Node) BecomeOf(_ context.Context, member string, s ha.State) error {
	return n.ask("become", member, s)
}
func (n *Node) StayAwayOf(_ context.Context, member, reason string) error {
	return n.ask("stay away", member, reason)
}
func (n *Node) ComeBackOf(_ context.Context, member string) error { return n.ask("come back", member) }
func (n *Node) AddMember(_ context.Context, m ha.Member) error {
	return n.ask("add", m.Name, m.Addr, m.Kind, m.Priority)
}
func (n *Node) RemoveMember(_ context.Context, name string) error  { return n.ask("remove", name) }
func (n *Node) ReplaceMember(_ context.Context, name string) error { return n.ask("replace", name) }
func (n *Node) Promote(_ context.Context, name string) error       { return n.ask("promote", name) }
func (n *Node) Demote(_ context.Context, name string) error        { return n.ask("demote", name) }
func (n *Node) SetPriority(_ context.Context, name string, p int) error {
	return n.ask("priority", name, p)
}

// Three returns what a member a says of a healthy cluster of three, of which the member that is named is Active.
func Three(active string, epoch uint64) Said {
	now := time.Now()
	s := Said{
		Cluster: "shop",
		Status:  ha.Status{Name: "a", State: ha.Standby, Epoch: epoch, Active: active, ActiveAddr: "10.0.0.1:7000", Leader: active, Index: 48_120, Applied: 48_120},
		Events:  map[string][]ha.Event{"a": nil, "b": nil, "c": nil},
	}
	if active == "a" {
		s.Status.State, s.Status.Lease = ha.Active, 400*time.Millisecond
	}
	for i, name := range []string{"a", "b", "c"} {
		m := ha.MemberStatus{
			Name: name, Addr: fmt.Sprintf("10.0.0.%d:7000", i+1), Advertise: fmt.Sprintf("http://10.0.0.%d:8000", i+1), Kind: ha.KindVoter, Liveness: ha.Alive,
			State: ha.Standby, Epoch: epoch, Index: 48_120, Applied: 48_120, Program: "v1.4.0", Protocol: 1, Heard: now, RoundTrip: time.Duration(320+60*i) * time.Microsecond,
		}
		if name == active {
			m.State = ha.Active
		}
		if name == "a" {
			m.RoundTrip = 0
		}
		s.Members = append(s.Members, m)
	}
	for e := range epoch {
		s.Epochs = append(s.Epochs, ha.Epoch{Epoch: e + 1, Holder: string(rune('a' + e%3)), First: 1 + 100*e})
	}
	return s
}
