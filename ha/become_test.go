package ha_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// T7: hand-overs under load lose nothing, answer everything definitely, and wait for OnActive.
func TestT7_HandOverUnderAppends(t *testing.T) {
	t.Parallel()
	const writers, rounds = 16, 5
	r := new(roles)
	c := withRoles(t, 3, r, nil)
	c.startAll()
	c.active()
	l := newLedger()
	var next atomic.Uint64
	var acked atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	nodes := []*ha.Node{c.nodes["a"], c.nodes["b"], c.nodes["c"]}
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for ctx.Err() == nil {
				for _, n := range nodes {
					s := n.Status()
					if s.State != ha.Active {
						continue
					}
					v := next.Add(1)
					index, err := n.Append(context.Background(), s.Token, number(v))
					l.note(t, v, index, err)
					switch {
					case err == nil:
						acked.Add(1)
					case !errors.Is(err, ha.ErrFenced) && !errors.Is(err, ha.ErrNotActive):
						t.Errorf("append: %v", err)
					}
				}
			}
		})
	}
	for range rounds {
		before := acked.Load()
		eventually(t, "appends are acknowledged", func() bool { return acked.Load() > before+100 })
		_, token := c.active()
		c.handOver(token)
		end := r.ended(token)
		_, s := c.await("active again", func(s ha.Status) bool { return s.Token.Supersedes(token) })
		eventually(t, "OnActive runs", func() bool { return len(r.of(s.Token.Epoch)) == 1 })
		if begun := r.of(s.Token.Epoch)[0].begun; begun.Before(end.returned) {
			t.Errorf("OnActive of %v began before that of %v had returned", s.Token, token)
		}
	}
	stop()
	all.Wait()
	l.check(c)
	t.Logf("%d appends acknowledged, %d refused", len(l.acked), len(l.refused))
	c.closeAll()
}

func TestT7_BecomeActive(t *testing.T) {
	t.Parallel()
	r := new(roles)
	c := withRoles(t, 3, r, nil)
	c.startAll()
	for range 3 {
		_, token := c.active()
		name := c.others(token.Holder)[0]
		n := c.nodes[name]
		if err := n.Become(t.Context(), ha.Active); err != nil {
			t.Fatalf("Become(Active) on %s: %v", name, err)
		}
		s := n.Status()
		if s.State != ha.Active || !s.Token.Supersedes(token) {
			t.Errorf("after Become(Active): %+v", s)
		}
		if cause := context.Cause(r.ended(token).ctx); !errors.Is(cause, ha.ErrHandedOver) {
			t.Errorf("the old ctx ended with %v", cause)
		}
		if err := n.Become(t.Context(), ha.Active); err != nil {
			t.Errorf("Become(Active) on the Active: %v", err)
		}
		if err := c.nodes[token.Holder].Become(t.Context(), ha.Standby); err != nil {
			t.Errorf("Become(Standby) on a standby: %v", err)
		}
		if now := n.Status(); now.Token != s.Token {
			t.Errorf("asking for what is there has changed %+v to %+v", s, now)
		}
	}
	c.closeAll()
}

func TestBecomeRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	c.startAll()
	n, token := c.active()
	cause := errors.New("lost interest")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for _, s := range []ha.State{ha.Active, ha.Standby} {
		if err := n.Become(ended, s); !errors.Is(err, cause) {
			t.Errorf("Become(%v) with an ended ctx: %v", s, err)
		}
	}
	for _, s := range []ha.State{0, ha.Electing, ha.Activating, ha.Draining, ha.Failed, 99} {
		if err := n.Become(t.Context(), s); err == nil {
			t.Errorf("Become(%v) is accepted", s)
		}
	}
	if err := n.Check(token); err != nil {
		t.Errorf("the role has not lasted: %v", err)
	}
	c.stop("a")
	for _, s := range []ha.State{ha.Active, ha.Standby} {
		if err := n.Become(t.Context(), s); !errors.Is(err, ha.ErrClosed) {
			t.Errorf("Become(%v) after Close: %v", s, err)
		}
	}
}

// T7: without anybody alive to take over, the role stays where it is. And what the appends of an Active
// without quorum get: ErrBusy at once when too much waits, ErrUnknown when their ctx ends.
func TestT7_NoSuccessor(t *testing.T) {
	t.Parallel()
	r := new(roles)
	const heartbeat = 20 * time.Millisecond
	c := withRoles(t, 3, r, func(cfg *ha.Config) {
		cfg.Heartbeat, cfg.ElectionTimeout, cfg.MaxPending = heartbeat, 200*heartbeat, 1000
	})
	c.startAll()
	n, token := c.active()
	eventually(t, "OnActive runs", func() bool { return len(r.of(token.Epoch)) == 1 })
	role := r.of(token.Epoch)[0].ctx
	lost := c.others(token.Holder)
	for _, name := range lost {
		c.stop(name)
	}
	// A lease this short rests on an answer so old that the others no longer count as alive.
	full := n.Status().Lease
	eventually(t, "the others are silent", func() bool { return n.Status().Lease < 200*heartbeat-10*heartbeat })
	if n.Check(token) != nil {
		t.Skipf("the lease of %v is over before anything could be tried", full)
	}
	const inFlight = 3
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	answers := make(chan error, inFlight)
	for range inFlight {
		go func() {
			_, err := n.Append(ctx, token, make([]byte, 300))
			answers <- err
		}()
	}
	var busy error
	taken := 0
	eventually(t, "too much waits", func() bool {
		ended, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, busy = n.Append(ended, token, make([]byte, 300))
		if errors.Is(busy, ha.ErrUnknown) {
			taken++
		}
		return errors.Is(busy, ha.ErrBusy) || n.Check(token) != nil
	})
	if taken > 3 {
		t.Errorf("%d more appends of 300 bytes were taken, MaxPending is 1000", taken)
	}
	err := n.Become(t.Context(), ha.Standby)
	stays := n.Check(token)
	state, open := n.Status().State, role.Err()
	if stays == nil { // else the lease ended meanwhile
		if !errors.Is(busy, ha.ErrBusy) {
			t.Errorf("append beyond MaxPending: %v", busy)
		}
		var refused *ha.ObstacleError
		if !errors.Is(err, ha.ErrNoSuccessor) || !errors.As(err, &refused) || len(refused.Obstacles) != 2 {
			t.Errorf("Become(Standby): %v", err)
		}
		for _, name := range lost {
			if o := refused.Obstacles[name]; len(o) == 0 || o[0].Kind != ha.ObstacleSilent || o[0].Since.IsZero() {
				t.Errorf("in the way of %s: %v", name, o)
			}
		}
		if state != ha.Active || open != nil {
			t.Errorf("the role has not stayed: %v, ctx %v", state, open)
		}
	} else {
		t.Logf("too slow to see the role stay: %v", stays)
	}
	if cause := context.Cause(r.ended(token).ctx); !errors.Is(cause, ha.ErrLeaseExpired) {
		t.Errorf("the ctx ended with %v", cause)
	}
	cause := errors.New("lost patience")
	cancel(cause)
	for range inFlight {
		switch err := receive(t, "the answer of an append", answers); {
		case errors.Is(err, ha.ErrBusy), errors.Is(err, ha.ErrFenced):
		case !errors.Is(err, ha.ErrUnknown) || !errors.Is(err, cause):
			t.Errorf("append in flight: %v", err)
		}
	}
}
