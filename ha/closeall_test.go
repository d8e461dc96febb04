package ha_test

import (
	"sync"
	"testing"
	"time"
)

// TestClose_All: members that are closed at the same time do not wait for one another to take over, nor does the last one when they are closed one after the other.
func TestClose_All(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(c *cluster){
		"at once": func(c *cluster) {
			var all sync.WaitGroup
			for _, n := range c.nodes {
				all.Go(func() { n.Close() })
			}
			all.Wait()
		},
		"one after the other": func(c *cluster) {
			for _, name := range c.others() {
				c.shut(name)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, steady)
			c.startAll()
			c.active()
			began := time.Now()
			stop(c)
			took := time.Since(began)
			t.Logf("closed after %v", took.Round(time.Millisecond))
			if took > 9*time.Second { // Config.DrainTimeout is 10 s
				t.Errorf("closed after %v", took)
			}
		})
	}
}
