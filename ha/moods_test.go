package ha_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// moods are what a child of a test is told to do wrong, by lines "mood NAME" on its input; "mood" alone ends it all.
type moods struct {
	mu      sync.Mutex
	in      string
	changed chan struct{} // closed when it is another
}

func newMoods() *moods { return &moods{changed: make(chan struct{})} }

func (m *moods) now() (mood string, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.in, m.changed
}

// install puts moods into all that a program gives a member.
func (m *moods) install(cfg *ha.Config) {
	cfg.DrainTimeout, cfg.CoolDown, cfg.Preempt = time.Second, 300*time.Millisecond, 300*time.Millisecond
	cfg.HealthInterval, cfg.HealthTimeout, cfg.HealthStrikes = 50*time.Millisecond, 200*time.Millisecond, 2
	cfg.Health = func(context.Context) error {
		switch mood, changed := m.now(); mood {
		case "sick":
			return errors.New("the database is down")
		case "check-hangs":
			<-changed
		case "check-panics":
			panic("a check that panics")
		}
		return nil
	}
	cfg.OnFence = func(context.Context, ha.Previous) error {
		switch mood, _ := m.now(); mood {
		case "fence-fails":
			return errors.New("the power switch does not answer")
		case "fence-slow":
			time.Sleep(400 * time.Millisecond)
		}
		return nil
	}
	cfg.OnStandby = func(ctx context.Context) error {
		<-ctx.Done()
		if mood, _ := m.now(); mood == "standby-slow" {
			time.Sleep(400 * time.Millisecond)
		}
		return nil
	}
	work := cfg.OnActive
	cfg.OnActive = func(ctx context.Context, token fence.Token) error {
		done := make(chan error, 1)
		go func() { done <- work(ctx, token) }()
		for {
			mood, changed := m.now()
			switch mood {
			case "active-fails":
				return errors.New("the program gives up")
			case "active-panics":
				panic("an OnActive that panics")
			}
			select {
			case err := <-done:
				if mood == "active-hangs" {
					<-changed
				}
				return err
			case <-changed:
			}
		}
	}
	cfg.StateMachine = moody{new(counter), m}
}

// A moody is a state machine with moods.
type moody struct {
	*counter
	m *moods
}

func (s moody) Apply(entries []ha.Entry) error {
	switch mood, changed := s.m.now(); mood {
	case "apply-fails":
		return errors.New("the state is inconsistent")
	case "apply-hangs":
		<-changed
	}
	return s.counter.Apply(entries)
}

// command does what a test wants.
func (m *moods) command(n *ha.Node, command, rest string) {
	switch command {
	case "mood":
		m.mu.Lock()
		m.in = rest
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
	case "crash":
		panic("the program has a bug")
	case "active":
		_ = n.Become(context.Background(), ha.Active)
	case "away":
		_ = n.StayAway(context.Background(), rest)
	case "back":
		n.ComeBack()
	case "priority":
		name, to, _ := strings.Cut(rest, " ")
		priority, _ := strconv.Atoi(to)
		for n.SetPriority(context.Background(), name, priority) != nil {
			time.Sleep(time.Millisecond)
		}
	case "lose":
		_ = os.RemoveAll(rest)
	}
}
