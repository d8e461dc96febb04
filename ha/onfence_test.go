package ha_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// TestOnFence_Required: the only member of a cluster starts again. Its earlier process is to be kept out, which fails in
// every way there is. No epoch is opened before it succeeds.
func TestOnFence_Required(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var calls []ha.Previous
	fails := []func(ctx context.Context) error{
		func(context.Context) error { return errSick },
		func(context.Context) error { panic("no power switch") },
		func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) },
		func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		func(context.Context) error { return nil },
	}
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.FenceTimeout, cfg.CoolDown = 500*time.Millisecond, time.Millisecond // enough for those that return at once
		cfg.OnFence = func(ctx context.Context, p ha.Previous) error {
			mu.Lock()
			calls = append(calls, p)
			n := len(calls)
			mu.Unlock()
			return fails[n-1](ctx)
		}
	})
	c.startAll()
	c.active()
	if mu.Lock(); len(calls) > 0 {
		t.Errorf("before the first epoch OnFence was called with %v", calls)
	}
	mu.Unlock()
	c.stop("a")
	c.start("a")
	_, token := c.active()
	if token.Epoch != 2 {
		t.Errorf("the token after four failures is %v", token)
	}
	mu.Lock()
	defer mu.Unlock()
	want := ha.Previous{Name: "a", Addr: c.members[0].Addr, Epoch: 1, Ended: ha.EndedRestarted, By: "a"}
	if len(calls) != len(fails) || slices.ContainsFunc(calls, func(p ha.Previous) bool { return p != want }) {
		t.Errorf("OnFence was called with %v, want %d times %v", calls, len(fails), want)
	}
}

// TestOnFence_BestEffort: what fails is shown, and the member becomes active.
func TestOnFence_BestEffort(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.FencePolicy = ha.FenceBestEffort
		cfg.OnFence = func(context.Context, ha.Previous) error { return errSick }
	})
	c.startAll()
	c.active()
	c.stop("a")
	c.start("a")
	n, _ := c.active()
	if err := n.Status().Err; !errors.Is(err, errSick) || !strings.Contains(err.Error(), "OnFence") {
		t.Errorf("the status has %v", err)
	}
}

// TestOnFence_OthersFence: whoever takes over from another has kept that one out before OnActive is called.
func TestOnFence_OthersFence(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	fenced := map[uint64]ha.Previous{}
	var last fence.Token
	c := newCluster(t, 3, func(cfg *ha.Config) {
		name := cfg.Name
		cfg.OnFence = func(_ context.Context, p ha.Previous) error {
			mu.Lock()
			defer mu.Unlock()
			fenced[p.Epoch] = p
			if p.By != name {
				t.Errorf("OnFence of %s is told that it is %s's", name, p.By)
			}
			return nil
		}
		cfg.OnActive = func(ctx context.Context, tok fence.Token) error {
			mu.Lock()
			defer mu.Unlock()
			if p := fenced[last.Epoch]; last.Valid() && last.Holder != tok.Holder && p.Name != last.Holder {
				t.Errorf("%v becomes active after %v, and was told %+v", tok, last, p)
			}
			last = tok
			return nil
		}
	})
	c.startAll()
	_, token := c.active()
	for range 3 {
		c.handOver(token)
		_, token = c.activeAfter(token)
	}
}
