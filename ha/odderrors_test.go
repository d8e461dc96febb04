package ha_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// A shy error bears being asked only in the call that it comes from: elsewhere somebody else would wait for what is the program's.
type shy struct {
	t     *testing.T
	n     *ha.Node
	asked *atomic.Int32
}

func (e shy) ask(method string) {
	e.asked.Add(1)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.n.Become(over, ha.Active); !errors.Is(err, ha.ErrReentrant) { // which is looked at first
		e.t.Errorf("%s of an error of the program's is called outside of its call", method)
	}
}

func (e shy) Error() string { e.ask("Error"); return "shy" }

func (e shy) Is(error) bool { e.ask("Is"); return false }

func (e shy) As(any) bool { e.ask("As"); return false }

func (e shy) Unwrap() error { e.ask("Unwrap"); return nil }

// TestErrors_AreAskedInTheirCalls: the methods of what a callback returns are the program's. They may block, or panic, as those of a nil
// pointer in an error do.
func TestErrors_AreAskedInTheirCalls(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	var node atomic.Pointer[ha.Node]
	var asked, called atomic.Int32
	c := newCluster(t, 1, func(cfg *ha.Config) {
		shyly := func() error { called.Add(1); return shy{t, node.Load(), &asked} }
		cfg.CoolDown, cfg.HealthInterval, cfg.HealthStrikes = time.Millisecond, time.Millisecond, 1
		cfg.OnActive = func(ctx context.Context, tok fence.Token) error {
			node.Store(ha.FromContext(ctx))
			if tok.Epoch == 1 {
				return shyly()
			}
			<-ctx.Done()
			return shyly()
		}
		cfg.OnStandby = func(ctx context.Context) error {
			if node.Load() == nil {
				return nil
			}
			return shyly()
		}
		cfg.Health = func(context.Context) error {
			if sick.Load() {
				return shyly()
			}
			return nil
		}
		cfg.Handle = func(context.Context, fence.Token, ha.Request) ([]byte, error) { return nil, shyly() }
	})
	c.startAll()
	n, s := c.await("active again", func(s ha.Status) bool { return s.State == ha.Active && s.Epoch > 1 })
	var own *ha.CallError
	if _, err := n.Call(t.Context(), nil); !errors.As(err, &own) || own.Text != "shy" {
		t.Errorf("a call whose handler fails: %v", err)
	}
	sick.Store(true)
	eventually(t, "the sick member is not active", func() bool { return n.Check(s.Token) != nil })
	sick.Store(false)
	c.await("active again", func(now ha.Status) bool { return now.Token.Supersedes(s.Token) })
	c.closeAll()
	if asked.Load() < called.Load() {
		t.Errorf("%d errors were asked %d times", called.Load(), asked.Load())
	}
}
