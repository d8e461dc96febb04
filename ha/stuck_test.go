package ha_test

import (
	"context"
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
