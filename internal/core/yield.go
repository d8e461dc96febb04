package core

import (
	"time"

	"github.com/baton-ha/baton/internal/yield"
)

// A snapshot takes what live appends leave, as old entries do (flow.go). It is sent beside the core, at a rate that is found here, by
// how long batches take. Where nobody appends there is no limit; and neither is there one where nothing is committed: then it may be the
// very member that gets it that is waited for.

// yielding is how fast snapshots are sent, if this member leads.
type yielding struct {
	sending bool       // some are on their way
	rate    yield.Rate // of all of them together
}

// sent takes note of whether snapshots are on their way.
func (y *yielding) sent(some bool) {
	if some && !y.sending {
		y.rate.Begin()
	}
	y.sending = some
}

// SnapshotRate is at how many bytes a second this member should send snapshots at present, all of them together. 0: no limit.
func (c *Core) SnapshotRate(now time.Duration) int64 {
	if !c.yielding.sending || !c.pace.live(now) {
		return 0
	}
	return c.yielding.rate.BytesPerSecond()
}

// paced takes note of how long a batch took. probed: a probe has waited for it, and goes on.
func (c *Core) paced(now, took time.Duration, probed bool) {
	y := &c.yielding
	c.pace.committed(now, took, (probed || len(c.flows) == 0) && (!y.sending || y.rate.Slow()))
	if probed {
		c.shelf.releaseAt = now
	}
	if y.sending {
		y.rate.Wrote(&c.pace.strain)
	}
}
