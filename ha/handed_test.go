package ha_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// These tests hand in what does not behave: handlers that block, callbacks and state machines that do not
// return, or call the node where it would wait for itself.

// hooked is a state machine whose methods do something first.
type hooked struct {
	counter
	apply, snapshot, writeTo func()
}

func hook(f func()) {
	if f != nil {
		f()
	}
}

func (h *hooked) Apply(entries []ha.Entry) error { hook(h.apply); return h.counter.Apply(entries) }

func (h *hooked) Snapshot() (io.WriterTo, error) {
	hook(h.snapshot)
	s, err := h.counter.Snapshot()
	return hookedCapture{s, h.writeTo}, err
}

type hookedCapture struct {
	io.WriterTo
	before func()
}

func (c hookedCapture) WriteTo(w io.Writer) (int64, error) {
	hook(c.before)
	return c.WriterTo.WriteTo(w)
}

// stuck is a handler that blocks once it is told to.
type stuck struct {
	slog.Handler
	gate *sync.RWMutex
}

func (s stuck) Enabled(ctx context.Context, l slog.Level) bool {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.Handler.Enabled(ctx, l)
}

func (s stuck) WithAttrs(a []slog.Attr) slog.Handler { return stuck{s.Handler.WithAttrs(a), s.gate} }

func TestLogger_ThatBlocksBlocksNobody(t *testing.T) {
	t.Parallel()
	gate := new(sync.RWMutex)
	var out bytes.Buffer
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.DrainTimeout = 100 * time.Millisecond
		cfg.CoolDown = 10 * time.Millisecond
		cfg.Logger = slog.New(stuck{slog.NewTextHandler(&out, nil), gate})
		cfg.OnActive = func(ctx context.Context, tok fence.Token) error {
			if tok.Epoch < 3 {
				return errSick // lines, at least one
			}
			<-ctx.Done()
			return nil
		}
	})
	gate.Lock()
	c.startAll()
	n, token := c.active()
	for token.Epoch < 3 {
		n, token = c.activeAfter(token)
	}
	if _, err := n.Append(t.Context(), token, number(1)); err != nil {
		t.Errorf("append while the logger is blocked: %v", err)
	}
	err := n.Close()
	var unfinished *ha.UnfinishedError
	if !errors.As(err, &unfinished) || !slices.Contains(unfinished.Waiting, "the logger") {
		t.Errorf("Close while the logger is blocked: %v, want it to name the logger", err)
	}
	gate.Unlock()
	if err := n.Close(); err != nil {
		t.Errorf("Close once the logger goes on: %v", err)
	}
	if got := strings.Count(out.String(), "callback failed"); got != 1 {
		t.Errorf("%d lines of failed callbacks came out, want 1, as the second has failed like the first:\n%s", got, out.String())
	}
	if strings.Contains(out.String(), "cool-down") {
		t.Errorf("a failure is told twice:\n%s", out.String())
	}
}

// activeAfter waits for the next role.
func (c *cluster) activeAfter(old fence.Token) (*ha.Node, fence.Token) {
	n, s := c.await("active again", func(s ha.Status) bool { return s.State == ha.Active && s.Token.Supersedes(old) })
	return n, s.Token
}

func TestGoexit_IsTheFailureOfWhatWasCalled(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"OnActive", "OnStandby", "Apply", "Snapshot", "WriteTo"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			var once sync.Once
			exit := func(here string) {
				if here == where {
					once.Do(func() { runtime.Goexit() })
				}
			}
			c := newCluster(t, 1, func(cfg *ha.Config) {
				cfg.CoolDown = 10 * time.Millisecond
				cfg.CheckpointBytes = 1
				cfg.StateMachine = &hooked{apply: func() { exit("Apply") }, snapshot: func() { exit("Snapshot") }, writeTo: func() { exit("WriteTo") }}
				cfg.OnStandby = func(ctx context.Context) error { exit("OnStandby"); <-ctx.Done(); return nil }
				cfg.OnActive = func(ctx context.Context, _ fence.Token) error { exit("OnActive"); <-ctx.Done(); return nil }
			})
			c.startAll()
			n := c.nodes["a"]
			if where == "Apply" {
				_, token := c.active()
				if _, err := n.Append(t.Context(), token, number(1)); !errors.Is(err, ha.ErrUnknown) {
					t.Errorf("append whose Apply did not return: %v", err)
				}
				eventually(t, "the member has stopped", func() bool { return n.Status().State == ha.Failed })
			} else {
				eventually(t, "the failure is seen", func() bool { return n.Status().Err != nil })
				eventually(t, "the role comes all the same", func() bool { return n.Status().State == ha.Active })
			}
			if err := n.Status().Err; err == nil || !strings.Contains(err.Error(), "Goexit") {
				t.Errorf("Status().Err is %v", err)
			}
			err := n.Close()
			if (where == "Apply") != (err != nil) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func TestReentrant_CallsReturnAtOnce(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"OnStandby", "OnActive", "Apply", "Snapshot", "WriteTo"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			errs := make(chan error, 16)
			var once sync.Once
			c := newCluster(t, 1, nil)
			var self *ha.Node
			var ready sync.WaitGroup
			ready.Add(1)
			calls := func(here string, token fence.Token) {
				if here != where {
					return
				}
				once.Do(func() {
					ready.Wait()
					if token := self.Status().Token; token.Valid() && (here == "Apply" || here == "Snapshot") {
						_, err := self.Append(t.Context(), token, number(7))
						errs <- err
					}
					if here == "Apply" || here == "Snapshot" || here == "WriteTo" {
						_, err := self.Backup(t.Context(), io.Discard)
						errs <- err
					}
					errs <- self.Become(t.Context(), ha.Standby)
					errs <- self.Become(t.Context(), ha.Active)
					errs <- self.Shutdown(t.Context())
					errs <- self.Close()
					close(errs)
				})
			}
			c.edit = func(cfg *ha.Config) {
				cfg.CheckpointBytes = 1
				in := func(here string) func() { return func() { calls(here, fence.Token{}) } }
				cfg.StateMachine = &hooked{apply: in("Apply"), snapshot: in("Snapshot"), writeTo: in("WriteTo")}
				cfg.OnStandby = func(ctx context.Context) error { calls("OnStandby", fence.Token{}); <-ctx.Done(); return nil }
				cfg.OnActive = func(ctx context.Context, token fence.Token) error { calls("OnActive", token); <-ctx.Done(); return nil }
			}
			c.startAll()
			self = c.nodes["a"]
			ready.Done()
			go func() {
				for range 1000 { // something to be applied, until the node closes
					if _, err := self.Append(t.Context(), self.Status().Token, number(1)); errors.Is(err, ha.ErrClosed) {
						return
					}
					time.Sleep(time.Millisecond)
				}
			}()
			deadline := time.After(patience)
			for open := true; open; {
				select {
				case err, more := <-errs:
					if open = more; more && !errors.Is(err, ha.ErrReentrant) {
						t.Errorf("%v, want ErrReentrant", err)
					}
				case <-deadline:
					t.Fatal("a call waits for itself")
				}
			}
			// Close within has begun to close, and outside it can be waited for.
			if err := self.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if s := self.Status().State; s != ha.Failed {
				t.Errorf("the state after Close is %v", s)
			}
		})
	}
}

func TestShutdown_GivesUpWhateverHangs(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		hangs, named string
		ctx          context.Context // nil: Close
	}{
		{"OnActive", "OnActive", nil}, {"OnActive", "OnActive", over}, {"Apply", "StateMachine.Apply", nil},
		{"Apply", "StateMachine.Apply", over}, {"Snapshot", "StateMachine.Snapshot", over}, {"WriteTo", "WriteTo of a snapshot", over},
		{"", "", over},
	} {
		t.Run(fmt.Sprintf("%s/over=%v", c.hangs, c.ctx == over), func(t *testing.T) {
			t.Parallel()
			gate, hung := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var armed atomic.Bool
			at := func(here string) func() {
				return func() {
					if here == c.hangs && (armed.Load() || here == "OnActive") {
						once.Do(func() { close(hung); <-gate })
					}
				}
			}
			roles := make(chan context.Context, 1)
			cl := newCluster(t, 1, func(cfg *ha.Config) {
				cfg.DrainTimeout, cfg.CheckpointBytes = 50*time.Millisecond, 1
				cfg.StateMachine = &hooked{apply: at("Apply"), snapshot: at("Snapshot"), writeTo: at("WriteTo")}
				cfg.OnActive = func(ctx context.Context, _ fence.Token) error {
					roles <- ctx
					at("OnActive")()
					<-ctx.Done()
					return nil
				}
			})
			cl.startAll()
			n, token := cl.active()
			role := receive(t, "OnActive is called", roles)
			armed.Store(true)
			if c.hangs != "" && c.hangs != "OnActive" {
				go func() { // a checkpoint is due only once the last is written
					for err := error(nil); err == nil; {
						_, err = n.Append(context.Background(), token, number(1))
					}
				}()
			}
			if c.hangs != "" {
				receive(t, c.hangs+" hangs", hung)
			}
			leave := func() error { return n.Shutdown(c.ctx) }
			if c.ctx == nil {
				leave = n.Close
			}
			err := leave()
			var unfinished *ha.UnfinishedError
			if got := errors.As(err, &unfinished); got != (c.hangs != "") {
				t.Errorf("leaving returned %v", err)
			} else if got && !slices.Contains(unfinished.Waiting, c.named) {
				t.Errorf("%v does not name %s", err, c.named)
			}
			if role.Err() == nil || n.Check(token) == nil || n.Status().State == ha.Active {
				t.Errorf("the role goes on: ctx %v, check %v, %v", role.Err(), n.Check(token), n.Status().State)
			}
			if conn, err := net.Dial("tcp", cl.members[0].Addr); err == nil {
				conn.Close()
				t.Error("the port is open")
			}
			close(gate)
			if err := n.Shutdown(t.Context()); err != nil {
				t.Errorf("leaving once nothing hangs any more: %v", err)
			}
		})
	}
}
