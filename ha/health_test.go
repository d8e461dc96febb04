package ha_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// These tests hand in checks of health that fail, panic, or do not return (T9).

// patients are members whose checks do what they are told to.
type patients struct {
	mu    sync.Mutex
	ills  map[string]func(ctx context.Context) error // nil: it is well
	calls map[string]int                             // checks that run
	twice bool                                       // two of one member ran at a time
}

func newPatients() *patients {
	return &patients{ills: map[string]func(context.Context) error{}, calls: map[string]int{}}
}

func (p *patients) ill(name string, how func(ctx context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ills[name] = how
}

func (p *patients) install(cfg *ha.Config) {
	name := cfg.Name
	cfg.HealthInterval, cfg.HealthTimeout, cfg.HealthStrikes = 10*time.Millisecond, 200*time.Millisecond, 2
	cfg.Health = func(ctx context.Context) error {
		p.mu.Lock()
		if p.calls[name]++; p.calls[name] > 1 {
			p.twice = true
		}
		how := p.ills[name]
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.calls[name]--
		}()
		if how != nil {
			return how(ctx)
		}
		return nil
	}
}

// obstacleOf returns an obstacle of a member as its status has it.
func obstacleOf(n *ha.Node, kind ha.ObstacleKind) (found ha.Obstacle, ok bool) {
	for _, o := range n.Status().Obstacles {
		if o.Kind == kind {
			return o, true
		}
	}
	return found, false
}

func TestT9_Health(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		check func(release <-chan struct{}) func(context.Context) error
		says  string
	}{
		"fails": {func(<-chan struct{}) func(context.Context) error {
			return func(context.Context) error { return errSick }
		}, errSick.Error()},
		"panics": {func(<-chan struct{}) func(context.Context) error {
			return func(context.Context) error { panic("at the doctor's") }
		}, "at the doctor's"},
		"hangs": {func(release <-chan struct{}) func(context.Context) error {
			return func(context.Context) error { <-release; return nil }
		}, "has not returned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, r := newPatients(), &roles{}
			c := withRoles(t, 3, r, func(cfg *ha.Config) {
				p.install(cfg)
				cfg.CoolDown = time.Hour
			})
			c.startAll()
			n, token := c.active()
			release := make(chan struct{})
			p.ill(token.Holder, how.check(release))
			next, _ := c.activeOtherThan(token)
			if cause := context.Cause(r.ended(token).ctx); !errors.Is(cause, ha.ErrUnhealthy) || !strings.Contains(cause.Error(), how.says) {
				t.Errorf("the ctx of the sick active ended with %v", cause)
			}
			o, _ := obstacleOf(n, ha.ObstacleSick)
			if !strings.Contains(o.Text, how.says) {
				t.Errorf("the obstacles of the sick member are %v", n.Status().Obstacles)
			}
			eventually(t, "another member knows that it is sick", func() bool {
				for _, m := range next.Members() {
					if m.Name == token.Holder && len(m.Obstacles) == 1 && m.Obstacles[0].Kind == ha.ObstacleSick {
						return true
					}
				}
				return false
			})
			var obstacles *ha.ObstacleError
			if err := n.Become(t.Context(), ha.Active); !errors.Is(err, ha.ErrNotChosen) || !errors.As(err, &obstacles) {
				t.Errorf("Become(Active) on the sick member: %v", err)
			}
			p.ill(token.Holder, nil)
			close(release)
			eventually(t, "the member recovers", func() bool {
				_, sick := obstacleOf(n, ha.ObstacleSick)
				o, recovers := obstacleOf(n, ha.ObstacleRecovering)
				return !sick && recovers && time.Until(o.Until) > 30*time.Minute
			})
			c.put(number(1))
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.twice {
				t.Error("two checks of one member ran at a time")
			}
		})
	}
}

// TestT9_AllSick: nobody is active then, the log lives, and the first member that recovers has the role.
func TestT9_AllSick(t *testing.T) {
	t.Parallel()
	p, r := newPatients(), &roles{}
	c := withRoles(t, 3, r, func(cfg *ha.Config) {
		p.install(cfg)
		cfg.CoolDown = time.Millisecond
	})
	c.startAll()
	_, token := c.active()
	for _, m := range c.members {
		p.ill(m.Name, func(context.Context) error { return errSick })
	}
	r.ended(token)
	eventually(t, "all are sick, one leads, and nobody is active", func() bool {
		led := 0
		for _, n := range c.nodes {
			_, sick := obstacleOf(n, ha.ObstacleSick)
			s := n.Status()
			if !sick || s.State == ha.Active || s.Active == s.Name {
				return false
			}
			if s.Leader == s.Name {
				led++
			}
		}
		return led == 1
	})
	first := c.others(token.Holder)[0]
	p.ill(first, nil)
	c.await(first+" is active", func(s ha.Status) bool { return s.State == ha.Active && s.Name == first })
	c.put(number(1))
}

// TestT9_UncheckedIsNotActive: nobody is active before its first check has passed, and Close waits for a check.
func TestT9_UncheckedIsNotActive(t *testing.T) {
	t.Parallel()
	checks, release := make(chan struct{}, 1), make(chan struct{})
	var returned atomic.Bool
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.Health = func(ctx context.Context) error {
			select {
			case checks <- struct{}{}:
				<-release
			default:
				<-ctx.Done()
				returned.Store(true)
			}
			return nil
		}
		cfg.HealthInterval, cfg.HealthTimeout = time.Millisecond, time.Hour
	})
	c.startAll()
	n := c.nodes[c.members[0].Name]
	eventually(t, "it leads", func() bool { s := n.Status(); return s.Leader == s.Name })
	if s := n.Status(); s.State != ha.Standby || len(s.Obstacles) != 1 || s.Obstacles[0].Kind != ha.ObstacleSick {
		t.Errorf("the status of a member that leads and was not checked: %+v", s)
	}
	close(release)
	c.active()
	if err := n.Close(); err != nil || !returned.Load() {
		t.Errorf("Close: %v, and the check under way has returned: %v", err, returned.Load())
	}
}

// TestStayAway: an active that is asked to stay away hands over first, and does not come back by itself; a member may stay away from
// its start on.
func TestStayAway(t *testing.T) {
	t.Parallel()
	r := &roles{}
	c := withRoles(t, 3, r, func(cfg *ha.Config) {
		if cfg.Name == "c" {
			cfg.StayAway = "it has a slow disk"
		}
	})
	c.startAll()
	n, token := c.active()
	if token.Holder == "c" {
		t.Fatal("c is active, which stays away")
	}
	if err := n.StayAway(t.Context(), "a new kernel"); err != nil {
		if !errors.Is(err, ha.ErrNoSuccessor) && !errors.Is(err, ha.ErrNotHandedOver) {
			t.Fatalf("StayAway: %v", err)
		}
		eventually(t, "it stays away", func() bool { return n.StayAway(t.Context(), "a new kernel") == nil })
	}
	_, next := c.activeOtherThan(token)
	if next.Holder == "c" {
		t.Error("c is active, which stays away")
	}
	if o, _ := obstacleOf(n, ha.ObstacleAway); o.Text != "a new kernel" {
		t.Errorf("the obstacles of a member that stays away: %v", n.Status().Obstacles)
	}
	if o, _ := obstacleOf(c.nodes["c"], ha.ObstacleAway); o.Text != "it has a slow disk" {
		t.Errorf("the obstacles of a member that stays away from its start on: %v", c.nodes["c"].Status().Obstacles)
	}
	if err := c.nodes["c"].StayAway(t.Context(), "it has a new disk"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the obstacle has the new reason", func() bool {
		o, _ := obstacleOf(c.nodes["c"], ha.ObstacleAway)
		return o.Text == "it has a new disk"
	})
	n.ComeBack()
	eventually(t, "it has the role again", func() bool {
		err := n.Become(t.Context(), ha.Active)
		return err == nil && n.Status().State == ha.Active
	})
	c.put(number(1))
}
