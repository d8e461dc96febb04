package ha_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A subscriber that reads old records from disk when the node is closed learns that it is closed.
func TestG6_CloseWhileReadingFromDisk(t *testing.T) {
	t.Parallel()
	const count = 3000 // more than a subscriber reads ahead
	c := newCluster(t, 1, func(cfg *ha.Config) {
		steady(cfg)
		cfg.CacheBytes = 16 << 10
	})
	c.startAll()
	n, token := c.active()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range count / 50 {
				if _, err := n.Append(t.Context(), token, make([]byte, 1024)); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	all.Wait()
	first, goOn, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		var last error
		got := 0
		for _, err := range n.Subscribe(context.Background(), 1) {
			if last = err; err == nil {
				if got++; got == 1 {
					close(first)
					<-goOn
				}
				if got == count {
					break
				}
			}
		}
		end <- last
	}()
	receive(t, "the first record", first)
	c.stop("a")
	close(goOn)
	if err := receive(t, "the end", end); !errors.Is(err, ha.ErrClosed) {
		t.Errorf("the subscriber got %v, want ErrClosed", err)
	}
}
