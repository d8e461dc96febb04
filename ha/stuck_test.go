package ha_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// dog is a watchdog that counts.
type dog struct {
	fed    atomic.Int64
	closed atomic.Bool
}

func (d *dog) Feed() error          { d.fed.Add(1); return nil }
func (d *dog) Every() time.Duration { return time.Millisecond }
func (d *dog) Close() error         { d.closed.Store(true); return nil }

// TestOnStuck: an OnActive that does not return is told of, once, and nobody feeds the watchdog before it has returned.
func TestOnStuck(t *testing.T) {
	t.Parallel()
	w, p := new(dog), newPatients()
	release, reasons := make(chan struct{}), make(chan string, 10)
	c := newCluster(t, 1, func(cfg *ha.Config) {
		p.install(cfg)
		cfg.Watchdog, cfg.DrainTimeout = w, 20*time.Millisecond
		cfg.OnStuck = func(reason string) { reasons <- reason; panic("a fence that fails") }
		cfg.OnActive = func(context.Context, fence.Token) error { <-release; return nil }
	})
	c.startAll()
	n, _ := c.active()
	starved := func() bool {
		return slices.ContainsFunc(n.Status().Problems, func(p ha.Problem) bool { return p.Kind == "watchdog" })
	}
	eventually(t, "the watchdog is fed", func() bool { return w.fed.Load() > 3 })
	p.ill("a", func(context.Context) error { return errSick })
	if reason := receive(t, "OnStuck is called", reasons); !strings.Contains(reason, "OnActive of a has not returned") || !strings.Contains(reason, "sick") {
		t.Errorf("OnStuck was told %q", reason)
	}
	eventually(t, "the watchdog is not fed any more", starved)
	close(release)
	eventually(t, "the watchdog is fed again", func() bool { return !starved() })
	if len(reasons) > 0 {
		t.Error("OnStuck was called twice")
	}
	if err := n.Close(); err != nil || !w.closed.Load() {
		t.Errorf("Close: %v; the watchdog is closed: %v", err, w.closed.Load())
	}
}

// A watchdog that panics or blocks has not fed it, and neither ends nor holds up the member.
func TestWatchdog_ThatFails(t *testing.T) {
	t.Parallel()
	mood, release := new(atomic.Pointer[func()]), make(chan struct{})
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.DrainTimeout = time.Millisecond
		cfg.Watchdog = wilful{new(dog), mood}
	})
	c.startAll()
	n, token := c.active()
	says := func(what string) func() bool {
		return func() bool {
			return slices.ContainsFunc(n.Status().Problems, func(p ha.Problem) bool {
				return p.Kind == "watchdog" && strings.Contains(p.Err.Error(), what)
			})
		}
	}
	fine := func() bool { return !says("")() }
	for what, f := range map[string]func(){"no bone": func() { panic("no bone") }, "Goexit": runtime.Goexit} {
		mood.Store(&f)
		eventually(t, "it is said that the watchdog fails: "+what, says(what))
		mood.Store(nil)
		eventually(t, "it is fed again", fine)
	}
	block := func() { <-release }
	mood.Store(&block)
	eventually(t, "it is said that Feed blocks", says("has not returned"))
	if _, err := n.Append(t.Context(), token, number(1)); err != nil {
		t.Error(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var left *ha.UnfinishedError
	if err := n.Shutdown(over); !errors.As(err, &left) || !slices.Contains(left.Waiting, "Watchdog.Feed") {
		t.Errorf("Shutdown while Feed blocks: %v", err)
	}
	close(release)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// A wilful dog does what it is told to do.
type wilful struct {
	*dog
	mood *atomic.Pointer[func()]
}

func (m wilful) Feed() error {
	if f := m.mood.Load(); f != nil {
		(*f)()
	}
	return m.dog.Feed()
}
