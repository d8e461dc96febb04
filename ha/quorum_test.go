package ha_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// T10: without a quorum the role ends by itself, appends fail at once, and it returns by itself.
func TestT10_QuorumLoss(t *testing.T) {
	t.Parallel()
	r := new(roles)
	c := withRoles(t, 3, r, func(cfg *ha.Config) { cfg.ElectionTimeout = 5 * time.Second }) // nothing else is to end the role
	c.startAll()
	n, token := c.active()
	eventually(t, "OnActive runs", func() bool { return len(r.of(token.Epoch)) == 1 })
	role := r.of(token.Epoch)[0].ctx
	l := newLedger()
	var next atomic.Uint64
	var unknown atomic.Int64
	var withRole, patient sync.WaitGroup
	writer := func(ctx context.Context) func() {
		return func() {
			for {
				v := next.Add(1)
				index, err := n.Append(ctx, token, number(v))
				l.note(t, v, index, err)
				if errors.Is(err, ha.ErrUnknown) {
					unknown.Add(1)
					if !errors.Is(err, ha.ErrLeaseExpired) {
						t.Errorf("append in flight at the end of its ctx: %v", err)
					}
				}
				if err != nil {
					return
				}
			}
		}
	}
	for range 4 {
		withRole.Go(writer(role))
		patient.Go(writer(context.Background()))
	}
	eventually(t, "appends are acknowledged", func() bool { return next.Load() > 100 })
	lost := c.others(token.Holder)
	for _, name := range lost {
		c.stop(name)
		r.forget(name)
	}
	if cause := context.Cause(r.ended(token).ctx); !errors.Is(cause, ha.ErrLeaseExpired) {
		t.Errorf("the ctx ended with %v", cause)
	}
	withRole.Wait()
	if unknown.Load() == 0 {
		t.Error("no append was in flight")
	}
	_, err := n.Append(context.Background(), token, number(next.Add(1)))
	if !errors.Is(err, ha.ErrFenced) && !errors.Is(err, ha.ErrNotActive) {
		t.Errorf("append after the end: %v", err)
	}
	if err := n.Check(token); err == nil {
		t.Error("the token is still good")
	}
	eventually(t, "no leader is known", func() bool { return n.Status().State == ha.Electing })
	c.start(lost...)
	_, s := c.await("active again", func(s ha.Status) bool { return s.Token.Supersedes(token) })
	patient.Wait() // the next epoch decides the fate of all that waited (G3)
	l.check(c)
	t.Logf("%v after %v: %d acknowledged, %d refused, %d unknown", s.Token, token, len(l.acked), len(l.refused), len(l.unknown))
	c.closeAll()
}

func TestG3_AppendErrors(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.MaxRecord = 1000
	})
	c.startAll()
	n, token := c.active()
	cause := errors.New("too late")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	other, future, early := token, token, token
	other.Cluster = "other"
	future.Epoch++
	early.Epoch = 0
	foreign := fence.Token{Cluster: "test", Epoch: token.Epoch + 1, Holder: c.others(token.Holder)[0]}
	stale := fence.Token{Cluster: "test", Epoch: token.Epoch, Holder: c.others(token.Holder)[0]}
	for _, test := range []struct {
		name  string
		ctx   context.Context
		token fence.Token
		size  int
		want  []error // any of them
	}{
		{"too large", t.Context(), token, 1001, []error{ha.ErrTooLarge}},
		{"zero token", t.Context(), fence.Token{}, 8, []error{ha.ErrNotActive}},
		{"epoch 0", t.Context(), early, 8, []error{ha.ErrNotActive}},
		{"other cluster", t.Context(), other, 8, []error{ha.ErrNotActive}},
		{"own future", t.Context(), future, 8, []error{ha.ErrNotActive, ha.ErrFenced}},
		{"future of another", t.Context(), foreign, 8, []error{ha.ErrNotActive}},
		{"other holder", t.Context(), stale, 8, []error{ha.ErrNotActive, ha.ErrFenced}},
		{"ended ctx", ended, token, 8, []error{cause}},
	} {
		_, err := n.Append(test.ctx, test.token, make([]byte, test.size))
		matched := false
		for _, want := range test.want {
			matched = matched || errors.Is(err, want)
		}
		if !matched || errors.Is(err, ha.ErrUnknown) {
			t.Errorf("%s: %v", test.name, err)
		}
		var there *ha.NotActiveError
		if none := !test.token.Valid() || test.token.Cluster != "test"; none && errors.As(err, &there) && there.Active == token.Holder {
			t.Errorf("%s: the caller is sent where it is: %v", test.name, err)
		}
	}
	if _, err := n.Append(t.Context(), token, make([]byte, 1000)); err != nil {
		t.Errorf("append of MaxRecord bytes: %v", err)
	}
	addr := ""
	for _, m := range c.members {
		if m.Name == token.Holder {
			addr = m.Addr
		}
	}
	for _, name := range c.others(token.Holder) {
		standby := c.nodes[name]
		eventually(t, name+" knows the Active", func() bool { return standby.Status().Active == token.Holder })
		_, err := standby.Append(t.Context(), token, number(1))
		var na *ha.NotActiveError
		if !errors.As(err, &na) || na.Active != token.Holder || na.Addr != addr || !strings.Contains(err.Error(), addr) {
			t.Errorf("append on %s: %v", name, err)
		}
	}
	if got := c.put(number(1)); got != 2 {
		t.Errorf("the next record is %d: one of the refused is in the log", got)
	}
}

func TestAppendEmptyRecord(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	c.bare = true
	c.startAll()
	for i := range uint64(3) {
		if got := c.put(nil); got != i+1 {
			t.Errorf("empty record %d has index %d", i+1, got)
		}
	}
	for _, e := range records(t, c.nodes["a"], 3) {
		if len(e.Data) != 0 {
			t.Errorf("record %d: %q", e.Index, e.Data)
		}
	}
}
