package ha_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// TestMem_Small: with the least memory that its settings allow, a cluster takes records from one byte to MaxRecord, many at a
// time, and a member that was away catches up with all of them.
func TestMem_Small(t *testing.T) {
	t.Parallel()
	const largest = 2 << 20
	c := newCluster(t, 3, func(cfg *ha.Config) {
		steady(cfg)
		cfg.MemoryBytes, cfg.MaxRecord = 32<<20, largest
		cfg.StateMachine = nil
	})
	c.bare = true
	c.startAll()
	_, token := c.active()
	late := c.others(token.Holder)[0]
	c.stop(late)
	n, token := c.active()
	var appenders sync.WaitGroup
	for i := range 64 {
		appenders.Go(func() {
			size, count := 1, 300
			if i%16 == 0 {
				size, count = largest, 4
			}
			for range count {
				if _, err := n.Append(context.Background(), token, bytes.Repeat([]byte{byte(i)}, size)); err == ha.ErrBusy {
					continue // 4 MiB wait already
				} else if err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	appenders.Wait()
	last := n.Status().Index
	c.start(late)
	eventually(t, "the late member has all", func() bool { return c.nodes[late].Status().Index >= last })
	if got, want := records(t, c.nodes[late], last), records(t, n, last); len(got) != len(want) {
		t.Errorf("%d records instead of %d", len(got), len(want))
	} else {
		for i := range got {
			if !bytes.Equal(got[i].Data, want[i].Data) {
				t.Fatalf("record %d differs", i+1)
			}
		}
	}
}
