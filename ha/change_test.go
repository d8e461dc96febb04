package ha_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// rowOf returns the member of a name as a node lists it.
func (c *cluster) rowOf(on, name string) (ha.MemberStatus, bool) {
	for _, m := range c.nodes[on].Members() {
		if m.Name == name {
			return m, true
		}
	}
	return ha.MemberStatus{}, false
}

// listed waits until all nodes list a member as it should be.
func (c *cluster) listed(what, name string, ok func(m ha.MemberStatus, there bool) bool) {
	c.t.Helper()
	for on := range c.nodes {
		eventually(c.t, on+" lists that "+what, func() bool { return ok(c.rowOf(on, name)) })
	}
}

// shut closes a member, which is expected to run no more.
func (c *cluster) shut(name string) {
	c.nodes[name].Close()
	delete(c.nodes, name)
}

// TestChange_FromAnyMember: attributes, demotion, promotion, another address and removal, asked of members that do not lead and of
// the one that does, while records are appended.
func TestChange_FromAnyMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	_, token := c.active()
	active := token.Holder
	standbys := c.others(active)
	asked, other := c.nodes[standbys[0]], standbys[1]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		c.put(number(1))
	}

	must("priority", asked.SetPriority(ctx, other, 7))
	must("priority again", c.nodes[active].SetPriority(ctx, other, 7))
	c.listed("the priority is another", other, func(m ha.MemberStatus, _ bool) bool { return m.Priority == 7 })

	must("demote", asked.Demote(ctx, other))
	c.listed("it has no vote", other, func(m ha.MemberStatus, _ bool) bool { return m.Kind == ha.KindObserver && m.State == ha.Observer })
	short, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := c.nodes[other].Become(short, ha.Active); !errors.Is(err, ha.ErrNotChosen) {
		t.Errorf("an observer wants to be active: %v", err)
	}
	must("promote", c.nodes[other].Promote(ctx, other))
	c.listed("it has a vote", other, func(m ha.MemberStatus, _ bool) bool { // where the Active does not get to run, it may have the role, too
		return m.Kind == ha.KindVoter && (m.State == ha.Standby || m.State == ha.Active)
	})

	// It moves: it is started elsewhere, and says so itself; or the others are told while it is down.
	for _, told := range []bool{false, true} {
		c.shut(other)
		c.members = slices.Clone(c.members)
		i := slices.IndexFunc(c.members, func(m ha.Member) bool { return m.Name == other })
		c.members[i].Addr = loopback.Addr(t)
		if told {
			must("change the address", asked.ChangeAddr(ctx, other, c.members[i].Addr))
			c.listed("it has moved", other, func(s ha.MemberStatus, _ bool) bool { return s.Addr == c.members[i].Addr })
		}
		c.start(other)
		c.listed("it is there", other, func(s ha.MemberStatus, _ bool) bool {
			return s.Addr == c.members[i].Addr && s.Liveness == ha.Alive
		})
	}

	// What is refused says why, also across the wire.
	var refused *ha.MembershipError
	err := asked.RemoveMember(ctx, "nobody")
	if !errors.Is(err, ha.ErrNoMember) || !errors.As(err, &refused) || refused.Change != `remove member "nobody"` {
		t.Errorf("remove nobody: %v", err)
	}
	if err := asked.AddMember(ctx, ha.Member{Name: "d", Addr: loopback.Addr(t)}); !errors.Is(err, ha.ErrNewcomer) {
		t.Errorf("add somebody who is not there: %v", err)
	}
	if err := asked.AddMember(ctx, ha.Member{Name: "not a name"}); !errors.Is(err, ha.ErrBadChange) {
		t.Errorf("add what has no name: %v", err)
	}

	// The Active is removed, asked of another: it hands over first. Then nobody may be removed any more.
	must("remove the Active", c.nodes[other].RemoveMember(ctx, active))
	c.shut(active)
	c.listed("it is gone", active, func(_ ha.MemberStatus, there bool) bool { return !there })
	must("remove it again", asked.RemoveMember(ctx, active))
	c.shut(other)
	short, stop = context.WithTimeout(ctx, time.Second)
	defer stop()
	if err := asked.RemoveMember(short, other); !errors.As(err, &refused) && !errors.Is(err, ha.ErrUnknown) {
		t.Errorf("one of two is down, and it was removed: %v", err)
	}
}

// TestChange_GrowAndShrink: one member becomes three and then five, and again three, one of which moves, under appends: every one that
// was acknowledged is there once, on all.
func TestChange_GrowAndShrink(t *testing.T) {
	t.Parallel()
	var c *cluster
	c = newCluster(t, 5, func(cfg *ha.Config) {
		if cfg.Join = cfg.Name != "a"; !cfg.Join {
			cfg.Members = c.members[:1]
		}
	})
	c.start("a")
	_, first := c.active()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	load := startLoad(t, c.nodes["a"])
	voters := func(want ...string) {
		t.Helper()
		for _, n := range c.nodes {
			eventually(t, n.Status().Name+" knows the voters", func() bool {
				var have []string
				for _, m := range n.Members() {
					if m.Kind == ha.KindVoter {
						have = append(have, m.Name)
					}
				}
				return slices.Equal(have, want)
			})
		}
	}
	for i, m := range c.members[1:] {
		c.start(m.Name)
		load.use(c.nodes[m.Name])
		if err := c.nodes[c.members[i].Name].AddMember(ctx, m); err != nil { // asked of the one before
			t.Fatalf("add %s: %v", m.Name, err)
		}
		voters([]string{"a", "b", "c", "d", "e"}[:i+2]...)
	}
	if err := c.nodes["d"].RemoveMember(ctx, "e"); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes["b"].RemoveMember(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	c.shut("d")
	c.shut("e")
	voters("a", "b", "c")
	gap := load.stop()
	_, last := c.active()
	ledger := load.ledger
	t.Logf("%d appends were acknowledged, %d refused, %d are unknown; the longest gap was %v; epoch %d, then %d", len(ledger.acked), len(ledger.refused), len(ledger.unknown), gap, first.Epoch, last.Epoch)
	ledger.check(c)
}

// A load appends numbers on whichever of its nodes is Active, one at a time, and notes what becomes of them.
type load struct {
	ledger *ledger
	end    context.CancelFunc
	done   chan struct{}
	gap    time.Duration // the longest between two that were acknowledged; read after done

	mu    sync.Mutex // guards nodes
	nodes []*ha.Node
}

func startLoad(t *testing.T, nodes ...*ha.Node) *load {
	ctx, end := context.WithCancel(t.Context())
	l := &load{ledger: newLedger(), end: end, done: make(chan struct{}), nodes: nodes}
	go func() {
		defer close(l.done)
		acked := time.Now()
		for v := uint64(1); ctx.Err() == nil; {
			l.mu.Lock()
			nodes := slices.Clone(l.nodes)
			l.mu.Unlock()
			for _, n := range nodes {
				s := n.Status()
				if s.State != ha.Active {
					continue
				}
				index, err := n.Append(context.Background(), s.Token, number(v))
				l.ledger.note(t, v, index, err)
				if v++; err == nil {
					l.gap, acked = max(l.gap, time.Since(acked)), time.Now()
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return l
}

// use appends on a node, too.
func (l *load) use(n *ha.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, n)
}

// stop ends the load, and returns the longest time in which nothing was acknowledged.
func (l *load) stop() time.Duration {
	l.end()
	<-l.done
	return l.gap
}
