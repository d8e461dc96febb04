package harness

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Histogram counts durations with an error of at most 0.4 %. It allocates nothing while it is used, so that it
// does not show in what is measured. The zero value is empty; all methods may be called concurrently.
type Histogram struct {
	stripes [stripes]struct {
		counts [buckets]atomic.Uint64
	}
}

const (
	stripes = 8 // writers are spread over them
	buckets = 36 * 128
)

func bucketOf(ns uint64) int {
	shift := max(0, bits.Len64(ns)-8)
	return min(shift*128+int(ns>>shift), buckets-1)
}

func middleOf(bucket int) float64 {
	if bucket < 256 {
		return float64(bucket)
	}
	shift := bucket/128 - 1
	return (float64(bucket-shift*128) + 0.5) * float64(uint64(1)<<shift)
}

// Add counts one duration; which tells concurrent callers apart.
func (h *Histogram) Add(which int, d time.Duration) {
	h.stripes[which%stripes].counts[bucketOf(uint64(max(0, d)))].Add(1)
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 {
	var n uint64
	for s := range h.stripes {
		for b := range h.stripes[s].counts {
			n += h.stripes[s].counts[b].Load()
		}
	}
	return n
}

// Quantile returns the duration below which the part q of all lie; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	want := min(uint64(q*float64(total))+1, total)
	var seen uint64
	for b := range buckets {
		for s := range h.stripes {
			seen += h.stripes[s].counts[b].Load()
		}
		if seen >= want && seen > 0 {
			return time.Duration(middleOf(b))
		}
	}
	return 0
}
