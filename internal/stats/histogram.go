// Package stats counts what a part of the program does, so cheaply that it is always on.
//
// A [Histogram] takes values from any number of goroutines without a lock; a [Distribution] is what it held at one moment,
// a plain value that can be copied, compared, added and subtracted. What is counted, and in which unit, is the owner's to say.
//
// The buckets are those of HdrHistogram: each power of two is divided into eight equal parts, so that a value is known to
// one part in sixteen, whatever its size, and finding its bucket takes a shift. Values below 16 are known exactly.
package stats

import (
	"math/bits"
	"sync/atomic"
)

const (
	partBits = 3 // each power of two has 1<<partBits parts
	parts    = 1 << partBits
	maxBits  = 42 // values from 1<<maxBits on, in nanoseconds 73 minutes, share the last bucket
	buckets  = (maxBits - partBits + 1) * parts
)

// A Histogram counts values by their size. The zero value is empty and ready for use. All methods may be called
// concurrently. It takes 2.5 KiB and must not be copied.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64
	max    atomic.Int64
}

// Observe counts v, or 0 if it is negative. It takes some 10 ns and allocates nothing.
func (h *Histogram) Observe(v int64) {
	v = max(v, 0)
	h.counts[bucketOf(v)].Add(1)
	h.sum.Add(v)
	for m := h.max.Load(); v > m && !h.max.CompareAndSwap(m, v); m = h.max.Load() {
	}
}

// Snapshot returns what has been observed so far. Values that are observed meanwhile may be in its counts and not yet in
// its sum and maximum, or the other way round.
func (h *Histogram) Snapshot() (d Distribution) {
	d.Sum, d.Max = h.sum.Load(), h.max.Load()
	for i := range h.counts {
		d.counts[i] = h.counts[i].Load()
		d.Count += d.counts[i]
	}
	return d
}

// bucketOf returns the bucket of v, which is not negative: its leading bit says the power of two, the partBits bits after
// that the part.
func bucketOf(v int64) int {
	n := bits.Len64(uint64(v))
	if n <= partBits {
		return int(v)
	}
	shift := n - partBits - 1
	return min(shift*parts+int(v>>shift), buckets-1)
}

// boundsOf returns the smallest and the largest value of a bucket.
func boundsOf(i int) (lowest, highest int64) {
	shift := max(i/parts-1, 0)
	lowest = int64(i-shift*parts) << shift
	return lowest, lowest + 1<<shift - 1
}
