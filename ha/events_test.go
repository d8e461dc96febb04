package ha_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// TestT22_Causes ends one role after the other for another reason each time, and looks at whether the members' events say it.
func TestT22_Causes(t *testing.T) {
	t.Parallel()
	p := newPatients()
	var mu sync.Mutex
	var fail func() error // what an OnActive that begins does
	failing := func() func() error {
		mu.Lock()
		defer mu.Unlock()
		return fail
	}
	release := make(chan struct{})
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		p.install(cfg)
		cfg.CoolDown = time.Millisecond
		cfg.OnActive = func(ctx context.Context, _ fence.Token) error {
			if f := failing(); f != nil {
				return f()
			}
			<-ctx.Done()
			return nil
		}
	})
	c.startAll()
	t.Cleanup(func() {
		if t.Failed() {
			for name, n := range c.nodes {
				for _, e := range n.Events() {
					t.Log(name, e)
				}
			}
		}
	})
	type change struct {
		epoch uint64 // whose role is ended
		cause string
	}
	var changes []change
	// Under load a role may end for want of a majority before it is ended here. Then the next one is.
	next := func(cause string, do func(n *ha.Node) error) {
		t.Helper()
		eventually(t, cause, func() bool {
			n, old := c.active()
			if err := do(n); err != nil {
				if !errors.Is(err, ha.ErrNoSuccessor) && !errors.Is(err, ha.ErrNotHandedOver) {
					t.Fatalf("%s: %v", cause, err)
				}
				return false
			}
			said := ""
			eventually(t, "the role of "+old.String()+" ends", func() bool {
				for _, e := range n.Events() {
					if e.Kind == ha.EventEnded && e.Epoch == old.Epoch {
						said = e.Cause
					}
				}
				return said != ""
			})
			if said != cause && said != ha.CauseLease && said != ha.CauseDeposed {
				t.Errorf("the role of %v ends because of %s, want %s", old, said, cause)
			}
			changes = append(changes, change{old.Epoch, said})
			return said == cause
		})
	}
	set := func(f func() error) {
		mu.Lock()
		defer mu.Unlock()
		fail = f
	}
	ill := func(how func(context.Context) error) func(n *ha.Node) error {
		return func(n *ha.Node) error {
			name := n.Status().Name
			p.ill(name, how)
			eventually(t, name+" is sick", func() bool { _, sick := obstacleOf(n, ha.ObstacleSick); return sick })
			return nil
		}
	}
	well := func() {
		for _, m := range c.members {
			p.ill(m.Name, nil)
		}
		eventually(t, "all are well", func() bool {
			for _, n := range c.nodes {
				if len(n.Status().Obstacles) > 0 {
					return false
				}
			}
			return true
		})
	}
	next(ha.CauseAsked, func(n *ha.Node) error { return n.Become(t.Context(), ha.Standby) })
	set(func() error { return nil }) // and the role goes on
	next(ha.CauseAsked, func(n *ha.Node) error { return n.Become(t.Context(), ha.Standby) })
	next(ha.CauseAsked, func(n *ha.Node) error { return n.Become(t.Context(), ha.Standby) })
	set(nil)
	next(ha.CauseUnhealthy, ill(func(context.Context) error { return errSick }))
	well()
	next(ha.CauseUnhealthy, ill(func(context.Context) error { <-release; return nil }))
	close(release)
	well()
	next(ha.CauseUnhealthy, ill(func(context.Context) error { panic("a check that panics") }))
	well()
	next(ha.CauseAway, func(n *ha.Node) error { return n.StayAway(t.Context(), "a new kernel") })
	for _, n := range c.nodes {
		n.ComeBack()
	}
	failures := func() (count int) {
		for _, n := range c.nodes {
			for _, e := range n.Events() {
				if e.Kind == ha.EventEnded && e.Cause == ha.CauseOnActive {
					count++
				}
			}
		}
		return count
	}
	for _, f := range []func() error{func() error { return errSick }, func() error { panic("an OnActive that panics") }} {
		before := failures()
		set(f)
		eventually(t, "an OnActive fails", func() bool {
			n, _ := c.active()
			_ = n.Become(t.Context(), ha.Standby) // so that another begins
			return failures() > before
		})
		set(nil)
	}
	next(ha.CauseClosed, func(n *ha.Node) error {
		name := n.Status().Name
		err := n.Close()
		c.start(name)
		return err
	})
	c.put(number(1))

	n, _ := c.active()
	for e := range n.WatchEvents(t.Context()) {
		if e.Kind == ha.EventActive && e.Epoch == n.Status().Epoch {
			break
		}
	}
	c.closeAll()
	var dirs []string
	for _, m := range c.members {
		dirs = append(dirs, filepath.Join(c.dir, m.Name))
	}
	x, err := ha.Explain(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	text := x.String()
	if !slices.ContainsFunc(x.Failovers, func(f ha.Failover) bool {
		return f.Cause == ha.CauseOnActive && strings.Contains(f.Text, "an OnActive that panics")
	}) {
		t.Error("no failover is said to be because of the OnActive that panics")
	}
	for _, want := range changes {
		if !slices.ContainsFunc(x.Events, func(e ha.Event) bool {
			return e.Kind == ha.EventEnded && e.Epoch == want.epoch && e.Cause == want.cause
		}) {
			t.Errorf("the end of epoch %d is not said to be because of %s", want.epoch, want.cause)
		}
		own := want.cause != ha.CauseLease && want.cause != ha.CauseDeposed // else more may be known
		if own && !slices.ContainsFunc(x.Failovers, func(f ha.Failover) bool { return f.Epoch > want.epoch && f.Cause == want.cause }) {
			t.Errorf("no failover is said to be because of %s", want.cause)
		}
	}
	if n := len(x.Failovers); n < len(changes) || !strings.Contains(x.Now, "nobody is Active") || !strings.Contains(x.Now, "the member was closed") {
		t.Errorf("%d failovers of at least %d; now: %s", n, len(changes), x.Now)
	}
	if t.Failed() {
		t.Log(text)
	}
}
