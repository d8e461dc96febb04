package client_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// TestT17_LargeCalls: a call that is larger than the members take is refused, and those beside it on the same stream go on; of large ones
// that they take, any number may come at a time.
func TestT17_LargeCalls(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) {
		appending(cfg)
		cfg.MaxRecord = 100 << 10
	})
	c.active()
	cl := dial(t, c.addrs()...)
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			switch i % 3 {
			case 0:
				if _, err := cl.Call(t.Context(), make([]byte, 100<<10+1)); !errors.Is(err, client.ErrTooLarge) {
					t.Errorf("one that is too large: %v", err)
				}
			case 1:
				if _, err := cl.Call(t.Context(), bytes.Repeat([]byte{1}, 100<<10)); err != nil {
					t.Errorf("a large one: %v", err)
				}
			case 2:
				if _, err := cl.Call(t.Context(), number(uint64(i))); err != nil {
					t.Errorf("a small one: %v", err)
				}
			}
		})
	}
	all.Wait()

	// An operator's record that this cluster does not take, though others do, is surely not in the log.
	o := operator(t, c)
	if _, _, err := o.Append(t.Context(), make([]byte, 100<<10+1)); !errors.Is(err, client.ErrTooLarge) || errors.Is(err, client.ErrUnknown) {
		t.Errorf("a record that is too large: %v", err)
	}
	if _, _, err := o.Append(t.Context(), make([]byte, 100<<10)); err != nil {
		t.Errorf("a large record: %v", err)
	}
}
