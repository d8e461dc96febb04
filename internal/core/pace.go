package core

import (
	"time"

	"github.com/baton-ha/baton/internal/yield"
)

// While a batch is under way the next one gathers, which makes the fewest and largest batches. Full ones need not wait, up to a
// bound, and others need not wait for them; nor does any, while the disk is idle, if it is the network that takes the time.

// A pace is how fast batches leave the gatherer: what is under way, and how long writes and commits take.
type pace struct {
	batches    int           // proposed, not committed
	bytes      int           // of those
	partial    int           // of those: not full
	writeTime  time.Duration // of this member's writes, on average
	commitTime time.Duration // of its batches

	committedAt    time.Duration // when the last one was; 0: none
	committedBytes uint64        // of all that were
	gap            time.Duration // between a commit after which none was under way and the next one proposed, on average; 0: not known
	strain         yield.Strain  // whether they take longer than where no member lags
	held           bool          // none is to be proposed before heldTill, for a member that is outrun (outrun.go)
	heldTill       time.Duration
}

// FullBatch is the size in bytes from which a batch does not wait for more records.
const FullBatch = 256 << 10

// Bounds of the batches that are proposed and not committed: the more bytes, the longer a small record
// waits behind large ones. Where the network is slow, only their number counts.
const (
	maxInflightBatches = 64
	maxInflightSize    = 1 << 20
)

// slowNetwork is how many times longer a commit takes than a write of this member's disk where the
// network is what is waited for.
const slowNetwork = 4

const maxPatience = 5 * time.Millisecond

// begin takes note of a batch that was proposed.
func (p *pace) begin(now time.Duration, b *Batch) {
	if p.batches == 0 && p.committedAt != 0 {
		p.gapped(min(now-p.committedAt, longestGap*p.soon()))
	}
	p.count(b, 1)
}

// gapped takes the time between two batches.
func (p *pace) gapped(gap time.Duration) {
	if gap = max(gap, 1); p.gap == 0 {
		p.gap = gap
	}
	smooth(&p.gap, gap)
}

// longestGap is how many times the longest that is soon a gap counts at most, so that a pause is soon forgotten.
const longestGap = 4

// soon is within what time after a commit the next batch is taken to follow it: it is proposed by those who were answered.
func (p *pace) soon() time.Duration { return min(2*p.commitTime, maxPatience) }

// follows reports whether the next batch is likely to follow soon.
func (p *pace) follows() bool { return p.gap != 0 && p.gap < p.soon() }

// end takes note of one that is committed, or never will be.
func (p *pace) end(b *Batch) { p.count(b, -1) }

func (p *pace) count(b *Batch, by int) {
	p.batches += by
	p.bytes += by * b.Size()
	if b.Size() < FullBatch {
		p.partial += by
	}
}

// wrote takes how long a write took, and committed how long a batch.
func (p *pace) wrote(took time.Duration) { smooth(&p.writeTime, took) }

// calm: nothing was on its way to a member that lags, or it comes as slowly as it can.
func (p *pace) committed(now, took time.Duration, calm bool) {
	smooth(&p.commitTime, took)
	p.committedAt = now
	if p.batches > 0 {
		p.gapped(0)
	}
	p.strain.Took(took, calm)
}

// live reports whether somebody appends.
func (p *pace) live(now time.Duration) bool { return p.committedAt != 0 && now-p.committedAt < liveFor }

// smooth moves an average a little towards what was just measured.
func smooth(average *time.Duration, measured time.Duration) {
	*average += (measured - *average) / 8
}

// room reports whether there is room for a batch of a size. idle: nothing is being written on this member.
func (p *pace) room(size int, idle bool) bool {
	slow := idle && p.commitTime > slowNetwork*p.writeTime
	switch {
	case p.held:
		return false
	case p.batches == 0:
		return true
	case p.batches >= maxInflightBatches:
		return false
	case size >= FullBatch:
		return slow || p.bytes < maxInflightSize
	}
	return slow || p.partial == 0
}

// patience is how long a batch may wait for more records, as long as they come.
func (p *pace) patience() time.Duration { return min(p.commitTime/2, maxPatience) }
