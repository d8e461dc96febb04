package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// TestStats: the Active counts the calls and the readers of clients.
func TestStats(t *testing.T) {
	t.Parallel()
	for _, handles := range []bool{true, false} {
		c := newCluster(t, 1, func(cfg *ha.Config) {
			if handles {
				cfg.Handle = func(_ context.Context, _ fence.Token, r ha.Request) ([]byte, error) {
					if len(r.Data) == 0 {
						return nil, &ha.CallError{Code: 7, Text: "nothing to do"}
					}
					return r.Data, nil
				}
			}
		})
		n, d := c.nodes["a"], dial(t, c.members[0].Addr)
		const calls = 20
		for range calls {
			if _, err := d.Call(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if handles {
			var own *client.CallError
			if _, err := d.Call(t.Context(), nil); !errors.As(err, &own) {
				t.Errorf("the handler's error is %v", err)
			}
		}
		s := n.Stats().Calls
		if s.Answered < calls || (s.Refused > 0) != handles || s.Callers < 1 || s.NoRoom+s.TooLarge+s.Expired+s.AnswerLost != 0 {
			t.Errorf("handler %v: %+v", handles, s)
		}
		if handles {
			continue
		}
		for range d.Subscribe(t.Context(), 1) {
			if s := n.Stats().Calls; s.Tails < 1 {
				t.Errorf("while one is reading: %+v", s)
			}
			break
		}
	}
}
