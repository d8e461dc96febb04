package ha_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// A call is one run of a callback.
type call struct {
	member   string
	active   bool
	token    fence.Token
	ctx      context.Context
	begun    time.Time
	returned time.Time // zero: not yet
}

// roles stands in for the users' callbacks. It notes each call, and checks when it begins that the role
// is exclusive: the last call on the same member has returned, and every ctx of an earlier OnActive on
// any other member is done (G4).
type roles struct {
	t         *testing.T
	onActive  func(ctx context.Context, c *call) error // nil: wait for ctx
	onStandby func(ctx context.Context, c *call) error

	mu    sync.Mutex
	calls []*call
}

func (r *roles) install(cfg *ha.Config) {
	name := cfg.Name
	cfg.OnActive = func(ctx context.Context, t fence.Token) error {
		return r.run(&call{member: name, active: true, token: t, ctx: ctx}, r.onActive)
	}
	cfg.OnStandby = func(ctx context.Context) error {
		return r.run(&call{member: name, ctx: ctx}, r.onStandby)
	}
}

func (r *roles) run(c *call, f func(context.Context, *call) error) error {
	r.begin(c)
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.returned = time.Now()
	}()
	if f != nil {
		return f(c.ctx, c)
	}
	<-c.ctx.Done()
	return context.Cause(c.ctx)
}

func (r *roles) begin(c *call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var last *call
	for _, o := range r.calls {
		if o.member == c.member {
			last = o
		}
		if c.active && o.active && o.ctx.Err() == nil {
			r.t.Errorf("OnActive of %v begins while the ctx of that of %v is open", c.token, o.token)
		}
		if c.active && o.active && o.token.Epoch >= c.token.Epoch {
			r.t.Errorf("OnActive of %v begins after that of %v", c.token, o.token)
		}
	}
	switch {
	case last == nil && c.active:
		r.t.Errorf("%s begins with OnActive", c.member)
	case last != nil && last.returned.IsZero():
		r.t.Errorf("%s: a callback begins before the last one has returned", c.member)
	case last != nil && last.active == c.active:
		r.t.Errorf("%s: two runs of the same callback follow each other (active: %v)", c.member, c.active)
	}
	c.begun = time.Now()
	r.calls = append(r.calls, c)
}

// forget is told that a member was closed: its next node's callbacks are another story.
func (r *roles) forget(member string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.calls[:0:0]
	for _, o := range r.calls {
		if o.member != member {
			kept = append(kept, o)
		} else if o.returned.IsZero() {
			r.t.Errorf("%s was closed before its callback had returned", o.member)
		}
	}
	r.calls = kept
}

// of returns the calls of OnActive so far, those of one epoch or all if that is 0.
func (r *roles) of(epoch uint64) (calls []call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.active && (epoch == 0 || c.token.Epoch == epoch) {
			calls = append(calls, *c)
		}
	}
	return calls
}

// ended waits until OnActive of a token has returned, and returns the call.
func (r *roles) ended(token fence.Token) (c call) {
	r.t.Helper()
	eventually(r.t, "OnActive of "+token.String()+" has returned", func() bool {
		calls := r.of(token.Epoch)
		if len(calls) == 1 {
			c = calls[0]
		}
		return !c.returned.IsZero()
	})
	return c
}

func withRoles(t *testing.T, size int, r *roles, edit func(*ha.Config)) *cluster {
	r.t = t
	return newCluster(t, size, func(cfg *ha.Config) {
		r.install(cfg)
		if edit != nil {
			edit(cfg)
		}
	})
}

var errSick = errors.New("sick")

// T9: an OnActive that fails gives the role up; the role moves on; the member stays away.
func TestT9_OnActiveFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errSick },
		"panic": func() error { panic(errSick.Error()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			sick, well := "", false
			r := &roles{onActive: func(ctx context.Context, c *call) error {
				mu.Lock()
				if sick == "" {
					sick = c.member
				}
				ill := c.member == sick && !well
				mu.Unlock()
				if ill {
					return fail()
				}
				<-ctx.Done()
				return nil
			}}
			c := withRoles(t, 3, r, func(cfg *ha.Config) { cfg.CoolDown = time.Hour })
			c.startAll()
			who := ""
			eventually(t, "OnActive has been called", func() bool {
				mu.Lock()
				defer mu.Unlock()
				who = sick
				return who != ""
			})
			n, token := c.active()
			if n.Status().Name == who { // seen before it had failed
				n, token = c.activeOtherThan(token)
			}
			first := r.ended(r.of(0)[0].token)
			cause := context.Cause(first.ctx)
			if !strings.Contains(fmt.Sprint(cause), "baton: OnActive: ") || !strings.Contains(cause.Error(), "sick") {
				t.Errorf("the ctx of the failed OnActive ended with %v", cause)
			}
			if name == "error" && !errors.Is(cause, errSick) {
				t.Errorf("the cause %v is not the callback's error", cause)
			}
			if name == "panic" && !strings.Contains(cause.Error(), "callback_test.go") {
				t.Errorf("the cause of a panic has no stack: %v", cause)
			}
			if s := c.nodes[who].Status(); s.Err == nil || !strings.Contains(s.Err.Error(), "sick") || s.State == ha.Failed {
				t.Errorf("status of the sick member: %+v", s)
			}
			if _, err := c.nodes[who].Append(t.Context(), first.token, number(1)); !errors.Is(err, ha.ErrFenced) {
				t.Errorf("append with the token of the failed role: %v", err)
			}
			// The role moves around, and never to the one that cools down.
			for range 4 {
				eventually(t, "there is a successor", func() bool { // the third may not have been heard in this term yet
					err := n.Become(t.Context(), ha.Standby)
					if err != nil && !errors.Is(err, ha.ErrNotHandedOver) && !errors.Is(err, ha.ErrNoSuccessor) {
						t.Fatalf("Become(Standby): %v", err)
					}
					return !errors.Is(err, ha.ErrNoSuccessor)
				})
				old := token
				var s ha.Status
				n, s = c.await("active again", func(s ha.Status) bool { return s.State == ha.Active && s.Token.Supersedes(old) })
				if token = s.Token; s.Name == who {
					t.Fatalf("%s is active, and should cool down", who)
				}
			}
			// A person may end the cool-down.
			mu.Lock()
			well = true
			mu.Unlock()
			if err := c.nodes[who].Become(t.Context(), ha.Active); err != nil {
				t.Errorf("Become(Active) on the member that is well again: %v", err)
			}
			c.closeAll()
		})
	}
}

func TestT9_CoolDown(t *testing.T) {
	t.Parallel()
	const coolDown = 200 * time.Millisecond
	r := &roles{onActive: func(ctx context.Context, c *call) error {
		if c.token.Epoch <= 2 {
			return errSick
		}
		<-ctx.Done()
		return nil
	}}
	c := withRoles(t, 1, r, func(cfg *ha.Config) { cfg.CoolDown = coolDown })
	c.startAll()
	c.await("active in epoch 3", func(s ha.Status) bool { return s.Token.Epoch == 3 })
	eventually(t, "OnActive of epoch 3 has begun", func() bool { return len(r.of(3)) > 0 })
	calls := r.of(0)
	for i := range 2 {
		if away := calls[i+1].begun.Sub(calls[i].returned); away < coolDown {
			t.Errorf("active again %v after a failure, the cool-down is %v", away, coolDown)
		}
	}
	c.closeAll()
}

// T9: an OnActive that does not return delays the role by DrainTimeout, and no longer.
func TestT9_OnActiveHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := &roles{onActive: func(ctx context.Context, c *call) error {
		<-ctx.Done()
		if c.token.Epoch == 1 {
			<-release
		}
		return nil
	}}
	const drain = 150 * time.Millisecond
	c := withRoles(t, 3, r, func(cfg *ha.Config) { cfg.DrainTimeout = drain })
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	c.startAll()
	n, token := c.active()
	if token.Epoch != 1 {
		t.Skipf("the role has moved before it was asked to: %v", token)
	}
	eventually(t, "OnActive runs", func() bool { return len(r.of(1)) == 1 })
	began := time.Now()
	c.handOver(token)
	eventually(t, "the role has moved", func() bool { return n.Status().Active != token.Holder && n.Status().Active != "" })
	if waited := time.Since(began); waited < drain {
		t.Errorf("the role has moved on after %v, without waiting for OnActive for %v", waited, drain)
	}
	next, token2 := c.activeOtherThan(token)
	if err := n.Check(token); !errors.Is(err, ha.ErrFenced) {
		t.Errorf("check of the old token: %v", err)
	}
	if s := n.Status(); s.State != ha.Draining {
		t.Errorf("the member whose OnActive hangs is %v", s.State)
	}
	if _, err := next.Append(t.Context(), token2, number(1)); err != nil {
		t.Errorf("append: %v", err)
	}
	hung := r.of(1)[0]
	if cause := context.Cause(hung.ctx); !errors.Is(cause, ha.ErrHandedOver) || !hung.returned.IsZero() {
		t.Errorf("the ctx of the hung OnActive ended with %v; returned %v", cause, hung.returned)
	}
	free()
	r.ended(token)
	eventually(t, "the member is a standby again", func() bool { return n.Status().State == ha.Standby })
	c.awaitSum(1, 1)
	c.closeAll()
}

// T9: an OnStandby that does not return keeps this member from the role, and the role finds another.
func TestT9_OnStandbyHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var once sync.Mutex
	hung := ""
	r := &roles{onStandby: func(ctx context.Context, c *call) error {
		<-ctx.Done()
		once.Lock()
		if hung == "" && errors.Is(context.Cause(ctx), ha.ErrActivating) {
			hung = c.member
		}
		me := hung == c.member
		once.Unlock()
		if me {
			<-release
		}
		return nil
	}}
	c := withRoles(t, 3, r, func(cfg *ha.Config) { cfg.DrainTimeout = 150 * time.Millisecond })
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)
	c.startAll()
	_, token := c.active()
	once.Lock()
	sick := hung
	once.Unlock()
	if sick == "" || token.Holder == sick {
		t.Errorf("%s is active; the OnStandby that hangs is that of %q", token.Holder, sick)
	}
	c.put(number(1))
	free()
	if err := c.nodes[sick].Become(t.Context(), ha.Active); err != nil {
		t.Errorf("Become(Active) once OnStandby has returned: %v", err)
	}
	c.awaitSum(1, 1)
	c.closeAll()
}

func TestOnActiveReturnsEarly(t *testing.T) {
	t.Parallel()
	r := &roles{onActive: func(context.Context, *call) error { return nil }}
	c := withRoles(t, 3, r, nil)
	c.startAll()
	n, token := c.active()
	first := r.ended(token)
	for i := range uint64(50) {
		if _, err := n.Append(t.Context(), token, number(i)); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	if err := first.ctx.Err(); err != nil {
		t.Errorf("the ctx has ended: %v", err)
	}
	if s := n.Status(); s.State != ha.Active || s.Token != token || n.Check(token) != nil {
		t.Errorf("status: %+v", s)
	}
	if err := n.Become(t.Context(), ha.Standby); err != nil {
		t.Errorf("Become(Standby): %v", err)
	}
	if cause := context.Cause(first.ctx); !errors.Is(cause, ha.ErrHandedOver) {
		t.Errorf("the ctx ended with %v", cause)
	}
	c.activeOtherThan(token)
	c.closeAll()
}

// Callbacks alternate strictly and their ctx says why it ended, over many hand-overs and restarts. The
// checks are in roles.begin.
func TestG4_CallbacksAlternate(t *testing.T) {
	t.Parallel()
	r := new(roles)
	c := withRoles(t, 3, r, nil)
	c.startAll()
	for i := range 6 {
		_, token := c.active()
		if i%3 == 2 {
			c.stop(token.Holder)
		} else {
			c.handOver(token)
		}
		end := r.ended(token)
		if cause := context.Cause(end.ctx); !errors.Is(cause, ha.ErrHandedOver) {
			t.Errorf("OnActive of %v ended with %v", token, cause)
		}
		_, next := c.await("active after "+token.String(), func(s ha.Status) bool { return s.Token.Supersedes(token) })
		if begun := r.of(next.Token.Epoch); len(begun) == 1 && begun[0].begun.Before(end.returned) {
			t.Errorf("OnActive of %v began before that of %v had returned", next.Token, token)
		}
		if i%3 == 2 {
			r.forget(token.Holder)
			c.start(token.Holder)
		}
	}
	c.closeAll()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.calls {
		cause := context.Cause(o.ctx)
		switch {
		case o.returned.IsZero():
			t.Errorf("%s was closed before its callback had returned", o.member)
		case !o.active && !errors.Is(cause, ha.ErrActivating) && !errors.Is(cause, ha.ErrClosed):
			t.Errorf("an OnStandby of %s ended with %v", o.member, cause)
		}
	}
}

func TestCloseWhileActive(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]error{1: ha.ErrClosed, 3: ha.ErrHandedOver} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			r := new(roles)
			c := withRoles(t, size, r, nil)
			c.startAll()
			n, token := c.active()
			eventually(t, "OnActive runs", func() bool { return len(r.of(token.Epoch)) == 1 })
			if err := n.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			end := r.of(token.Epoch)[0]
			if end.returned.IsZero() {
				t.Error("Close has not waited for OnActive")
			}
			if cause := context.Cause(end.ctx); !errors.Is(cause, want) {
				t.Errorf("the ctx ended with %v, want %v", cause, want)
			}
			if err := n.Close(); err != nil {
				t.Errorf("close again: %v", err)
			}
			if s := n.Status(); s.State != ha.Failed || s.Err != nil {
				t.Errorf("status: %+v", s)
			}
			if _, err := n.Append(t.Context(), token, number(1)); !errors.Is(err, ha.ErrClosed) {
				t.Errorf("append: %v", err)
			}
			if err := n.Check(token); !errors.Is(err, ha.ErrClosed) {
				t.Errorf("check: %v", err)
			}
			for _, s := range []ha.State{ha.Active, ha.Standby} {
				if err := n.Become(t.Context(), s); !errors.Is(err, ha.ErrClosed) {
					t.Errorf("Become(%v): %v", s, err)
				}
			}
			delete(c.nodes, token.Holder)
			c.closeAll()
		})
	}
}
