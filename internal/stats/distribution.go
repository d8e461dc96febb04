package stats

import (
	"iter"
	"math"
)

// A Distribution is what a [Histogram] held at one moment. Sum and Max are exact.
type Distribution struct {
	Count uint64
	Sum   int64
	Max   int64 // largest value ever observed

	counts [buckets]uint64
}

// Mean returns the exact average, 0 when nothing was observed.
func (d *Distribution) Mean() float64 {
	if d.Count == 0 {
		return 0
	}
	return float64(d.Sum) / float64(d.Count)
}

// Quantile returns the value that a share q, from 0 to 1, of all observed values does not exceed, 0 when nothing was
// observed. It is off by at most a sixteenth of the true one, 6.25 %, and never above Max. Of values from 2^42 on only Max
// is known.
func (d *Distribution) Quantile(q float64) int64 {
	rank := max(1, min(uint64(math.Ceil(q*float64(d.Count))), d.Count))
	for i, n := range d.counts {
		if n >= rank {
			lowest, highest := boundsOf(i)
			if i == buckets-1 {
				return d.Max
			}
			return min(lowest+(highest-lowest)/2, d.Max)
		}
		rank -= n
	}
	return 0
}

// Add adds what was observed by another histogram.
func (d *Distribution) Add(o *Distribution) {
	d.Count, d.Sum, d.Max = d.Count+o.Count, d.Sum+o.Sum, max(d.Max, o.Max)
	for i, n := range o.counts {
		d.counts[i] += n
	}
}

// Since returns what was observed after o, an earlier snapshot of the same histogram, but for Max, which is that of all time.
func (d *Distribution) Since(o *Distribution) Distribution {
	s := Distribution{Count: d.Count - o.Count, Sum: d.Sum - o.Sum, Max: d.Max}
	for i, n := range o.counts {
		s.counts[i] = d.counts[i] - n
	}
	return s
}

// Buckets returns, for each bucket that is not empty, in ascending order, the largest value that falls into it and how many
// values fell into it and those below. The last bucket has no upper bound; math.MaxInt64 stands for it.
func (d *Distribution) Buckets() iter.Seq2[int64, uint64] {
	return func(yield func(highest int64, below uint64) bool) {
		below := uint64(0)
		for i, n := range d.counts {
			if n == 0 {
				continue
			}
			below += n
			_, highest := boundsOf(i)
			if i == buckets-1 {
				highest = math.MaxInt64
			}
			if !yield(highest, below) {
				return
			}
		}
	}
}
