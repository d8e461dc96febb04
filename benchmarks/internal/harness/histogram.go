package harness

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Histogram counts durations up to two minutes, what is longer as that, to three significant digits. The zero value is empty; all methods may be called
// concurrently. Once each of its stripes is in use it allocates nothing, so that it does not show in what is measured.
type Histogram struct {
	stripes [stripes]stripe
}

// A stripe is what some of the writers have seen.
type stripe struct {
	mu   sync.Mutex // guards seen
	seen *hdrhistogram.Histogram
	_    [48]byte // its own cache line
}

const (
	stripes = 8 // writers are spread over them
	longest = 2 * time.Minute
	digits  = 3
)

func newSeen() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest), digits) }

// Add counts durations; which tells concurrent callers apart. A thousand writers who count each by itself spend a tenth of their time with it.
func (h *Histogram) Add(which int, ds ...time.Duration) {
	s := &h.stripes[which%stripes]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = newSeen()
	}
	for _, d := range ds {
		_ = s.seen.RecordValue(int64(min(max(d, 0), longest))) // it fails only beyond the longest
	}
}

// all returns what all writers have seen.
func (h *Histogram) all() *hdrhistogram.Histogram {
	all := newSeen()
	for i := range h.stripes {
		s := &h.stripes[i]
		s.mu.Lock()
		if s.seen != nil {
			all.Merge(s.seen)
		}
		s.mu.Unlock()
	}
	return all
}

// Count is the number of durations.
func (h *Histogram) Count() uint64 { return uint64(h.all().TotalCount()) }

// Quantile returns the duration below which the part q of all lie; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	return time.Duration(h.all().ValueAtQuantile(q * 100))
}
