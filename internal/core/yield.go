package core

import (
	"time"

	"github.com/baton-ha/baton/internal/yield"
)

// A snapshot takes what live appends leave, as old entries do (flow.go). It is sent beside the core, at a rate that is found here, by
// how long batches take. Where nobody appends there is no limit; and neither is there one where nothing is committed: then it may be the
// very member that gets it that is waited for.
//
// Whatever appends suffer, it stays as far as they have come since it was begun: so the log behind it, which is kept for the member, does not grow
// by more than the snapshot is large. Else that would be cut some time, and the member would need another snapshot, for ever.

// yielding is how fast snapshots are sent, if this member leads.
type yielding struct {
	sending bool          // some are on their way
	rate    yield.Rate    // of all of them together, as appends leave room for
	since   time.Duration // when the first of them was begun
	from    uint64        // bytes of this leader's batches that were committed by then
}

// sent takes note of whether snapshots are on their way, when so many bytes are committed.
func (y *yielding) sent(now time.Duration, some bool, committed uint64) {
	if some && !y.sending {
		y.rate.Begin()
		y.since, y.from = now, committed
	}
	y.sending = some
}

// appended is how many bytes a second are appended beside what is sent.
func (y *yielding) appended(now time.Duration, committed uint64) int64 {
	return int64(float64(committed-y.from) / max(now-y.since, liveFor).Seconds())
}

// slow reports whether they are sent as slowly as can be.
func (y *yielding) slow(now time.Duration, committed uint64) bool {
	return y.rate.Slow() && y.appended(now, committed) <= yield.Slowest
}

// SnapshotRate is at how many bytes a second this member should send snapshots at present, all of them together. 0: no limit.
func (c *Core) SnapshotRate(now time.Duration) int64 {
	if !c.yielding.sending || !c.pace.live(now) {
		return 0
	}
	return max(c.yielding.rate.BytesPerSecond(), c.yielding.appended(now, c.pace.committedBytes))
}

// paced takes note of how long a batch took. probed: a probe has waited for it, and goes on.
func (c *Core) paced(now, took time.Duration, probed bool) {
	y := &c.yielding
	c.pace.committed(now, took, (probed || len(c.flows) == 0) && (!y.sending || y.slow(now, c.pace.committedBytes)))
	if probed {
		c.shelf.releaseAt = now
	}
	if y.sending {
		y.rate.Wrote(&c.pace.strain)
	}
}
