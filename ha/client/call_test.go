package client_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// appending is a program that appends what it is asked to, and refuses what is empty.
func appending(cfg *ha.Config) {
	cfg.Handle = func(ctx context.Context, token fence.Token, r ha.Request) ([]byte, error) {
		if len(r.Data) == 0 {
			return nil, &ha.CallError{Code: 7, Text: "nothing to append"}
		}
		index, err := ha.FromContext(ctx).Append(ctx, token, r.Data)
		return number(index), err
	}
}

// T20: calls from outside take effect once each, while the role moves and members come and go, and the answer is that of
// the record that a call has become.
func TestT20_Calls(t *testing.T) {
	t.Parallel()
	const callers, each = 16, 12
	c := newCluster(t, 3, appending)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex // guards answered
	answered := map[uint64]uint64{}
	var all sync.WaitGroup
	for i := range uint64(callers) {
		all.Go(func() {
			for j := range uint64(each) {
				v := i*each + j + 1
				answer, err := cl.Call(ctx, number(v))
				if err != nil {
					t.Errorf("call %d: %v", v, err)
					return
				}
				mu.Lock()
				answered[value(answer)] = v
				mu.Unlock()
				time.Sleep(20 * time.Millisecond) // so that what follows comes between
			}
		})
	}
	n, _ := c.active()
	_ = n.Become(ctx, ha.Standby)
	n, _ = c.active()
	c.stop(n.Status().Name)
	c.active()
	all.Wait()
	last := c.put(number(0))
	seen := map[uint64]bool{}
	for e, err := range cl.Subscribe(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Index == last {
			break
		}
		v := value(e.Data)
		if seen[v] {
			t.Errorf("call %d has taken effect twice", v)
		}
		if seen[v] = true; answered[e.Index] != v {
			t.Errorf("record %d is of call %d, and was answered to call %d", e.Index, v, answered[e.Index])
		}
	}
	if len(seen) != callers*each {
		t.Errorf("%d of %d calls have taken effect", len(seen), callers*each)
	}
}

// What went wrong arrives with its meaning.
func TestCallErrors(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, appending)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var own *client.CallError
	if _, err := cl.Call(ctx, nil); !errors.As(err, &own) || own.Code != 7 || own.Text != "nothing to append" {
		t.Errorf("of the program: %v", err)
	}
	if _, err := cl.Call(ctx, make([]byte, 33<<20)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	c.stop("a")
	cause := errors.New("enough")
	short, enough := context.WithTimeoutCause(ctx, 50*time.Millisecond, cause)
	defer enough()
	if _, err := cl.Call(short, number(1)); !errors.Is(err, cause) {
		t.Errorf("nobody is there: %v", err)
	}
	cl.Close()
	if _, err := cl.Call(ctx, number(1)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
