package ha_test

import (
	"bytes"
	"context"
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

var largeRounds = flag.Int("large.rounds", 0, "how often TestLargeRecords appends eight records of 32 MiB at a time: a second of disk each")

// TestLargeRecords: eight records of 32 MiB at a time, the largest that there may be, cost nobody the role, at default timing.
func TestLargeRecords(t *testing.T) {
	if *largeRounds == 0 {
		t.Skip("see -large.rounds")
	}
	const largest = 32 << 20
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.MemoryBytes, cfg.MaxRecord, cfg.MaxPending = 2<<30, largest, 9*largest
		cfg.StateMachine = nil
	})
	c.bare = true
	c.startAll()
	n, token := c.active()
	record := bytes.Repeat([]byte("large"), largest/5)
	for round := range *largeRounds {
		began := time.Now()
		var appenders sync.WaitGroup
		for range 8 {
			appenders.Go(func() {
				if _, err := n.Append(context.Background(), token, record); err != nil {
					t.Errorf("append: %v", err)
				}
			})
		}
		appenders.Wait()
		t.Logf("round %d: %v", round, time.Since(began).Round(time.Millisecond))
	}
	if epochs := n.Epochs(); len(epochs) != 1 {
		t.Errorf("%d epochs: the role was lost", len(epochs))
	}
}
