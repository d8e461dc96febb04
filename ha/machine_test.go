package ha_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A broken machine fails at the first record of a value.
type broken struct {
	*counter
	armed *atomic.Bool
	fail  func() error
}

const poison = 666

func (b broken) Apply(entries []ha.Entry) error {
	for _, e := range entries {
		if value(e.Data) == poison && b.armed.Load() {
			return b.fail()
		}
	}
	return b.counter.Apply(entries)
}

// A state machine that fails stops its member, with a clear error; the others go on.
func TestT9_StateMachineFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() error{
		"error": func() error { return errSick },
		"panic": func() error { panic(errSick.Error()) },
	} {
		for _, who := range []string{"active", "standby"} {
			t.Run(who+" "+name, func(t *testing.T) {
				t.Parallel()
				armed := map[string]*atomic.Bool{}
				r := new(roles)
				c := withRoles(t, 3, r, func(cfg *ha.Config) {
					armed[cfg.Name] = new(atomic.Bool)
					cfg.StateMachine = broken{new(counter), armed[cfg.Name], fail}
				})
				c.startAll()
				c.put(number(1))
				n, token := c.active()
				sick := token.Holder
				if who == "standby" {
					sick = c.others(token.Holder)[0]
				}
				armed[sick].Store(true)
				_, err := n.Append(context.Background(), token, number(poison))
				if who == "active" && !errors.Is(err, ha.ErrUnknown) || who == "standby" && err != nil {
					t.Errorf("append of the record that breaks the %s: %v", who, err)
				}
				eventually(t, "the member has failed", func() bool { return c.nodes[sick].Status().State == ha.Failed })
				s := c.nodes[sick].Status()
				if s.Err == nil || !strings.Contains(s.Err.Error(), "state machine") || !strings.Contains(s.Err.Error(), "sick") {
					t.Errorf("status: %v", s.Err)
				}
				if name == "error" && !errors.Is(s.Err, errSick) {
					t.Errorf("the status %v does not match the machine's error", s.Err)
				}
				if err := c.nodes[sick].Check(token); !errors.Is(err, ha.ErrClosed) {
					t.Errorf("check on the failed member: %v", err)
				}
				if who == "active" {
					if end := r.ended(token); context.Cause(end.ctx) == nil {
						t.Error("the ctx of the failed Active is open")
					}
				}
				c.put(number(2)) // on another member
				if err := c.nodes[sick].Close(); err == nil || !strings.Contains(err.Error(), "sick") {
					t.Errorf("close: %v", err)
				}
				delete(c.nodes, sick)
				// Mended, it comes back and has missed nothing.
				armed[sick].Store(false)
				r.forget(sick)
				c.start(sick)
				last := c.put(number(3))
				log := records(t, c.nodes[sick], last)
				if v := value(log[1].Data); v != poison {
					t.Errorf("record 2 is %d", v)
				}
				c.closeAll()
			})
		}
	}
}
