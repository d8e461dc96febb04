package ha

import (
	"testing"
	"time"
)

// TestLeaseTimer: the timer of a lease that was extended rings by its end, and not before another extension would be late.
func TestLeaseTimer(t *testing.T) {
	const ms = time.Millisecond
	n := &Node{cfg: Config{ElectionTimeout: 500 * ms}}
	for _, test := range []struct {
		what              string
		now, rings, until time.Duration
		wants             bool
	}{
		{"there is none yet", 1000 * ms, 0, 1445 * ms, true},
		{"the next extension", 1125 * ms, 1445 * ms, 1570 * ms, false},
		{"the one after", 1250 * ms, 1445 * ms, 1695 * ms, true},
		{"it rings soon", 1250 * ms, 1499 * ms, 1695 * ms, true},
		{"the lease was cut short, and extended by less", 1125 * ms, 1445 * ms, 1444 * ms, true},
	} {
		x := new(tenure)
		x.rings.Store(int64(test.rings))
		x.until.Store(int64(test.until))
		if got := n.wantsTimer(x, test.now); got != test.wants {
			t.Errorf("%s: at %v it rings at %v, the lease ends at %v: wants another: %v", test.what, test.now, test.rings, test.until, got)
		}
	}
}
