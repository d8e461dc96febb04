package core

import "time"

// While a batch is under way the next one gathers, which makes the fewest and largest batches. Full ones need not wait, up to a
// bound, and others need not wait for them; nor does any, while the disk is idle, if it is the network that takes the time.

// A pace is how fast batches leave the gatherer: what is under way, and how long writes and commits take.
type pace struct {
	batches    int           // proposed, not committed
	bytes      int           // of those
	partial    int           // of those: not full
	writeTime  time.Duration // of this member's writes, on average
	commitTime time.Duration // of its batches

	committedAt time.Duration // when the last one was; 0: none
	recent      time.Duration // what batches take, on average of more of them than commitTime is
	calm        time.Duration // the same, where no member lags; 0: not known
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
func (p *pace) begin(b *Batch) { p.count(b, 1) }

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

// calm: no member lags.
func (p *pace) committed(now, took time.Duration, calm bool) {
	smooth(&p.commitTime, took)
	p.committedAt = now
	if p.recent == 0 {
		p.recent = took
	}
	p.recent += (took - p.recent) / 32
	if calm {
		p.calm = p.recent
	}
}

// strained reports whether batches take notably longer than they did where no member lagged.
func (p *pace) strained() bool { return p.calm > 0 && p.recent > p.calm+p.calm/strain }

// strain: it is notable by one part of this many.
const strain = 4

// smooth moves an average a little towards what was just measured.
func smooth(average *time.Duration, measured time.Duration) {
	*average += (measured - *average) / 8
}

// room reports whether there is room for a batch of a size. idle: nothing is being written on this member.
func (p *pace) room(size int, idle bool) bool {
	slow := idle && p.commitTime > slowNetwork*p.writeTime
	switch {
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
