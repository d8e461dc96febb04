package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// TestBuckets: the buckets follow each other without a gap, and each is at most an eighth of its values wide.
func TestBuckets(t *testing.T) {
	next := int64(0)
	for i := range buckets {
		lowest, highest := boundsOf(i)
		if lowest != next || bucketOf(lowest) != i || bucketOf(highest) != i {
			t.Fatalf("bucket %d is from %d to %d, want it from %d on; it takes them to %d and %d", i, lowest, highest, next, bucketOf(lowest), bucketOf(highest))
		}
		if width := highest - lowest + 1; width > 1 && width*parts > lowest {
			t.Fatalf("bucket %d from %d is %d wide", i, lowest, width)
		}
		next = highest + 1
	}
	if next != 1<<maxBits || bucketOf(math.MaxInt64) != buckets-1 {
		t.Fatalf("the buckets end at %d", next)
	}
}

// TestQuantile: quantiles are within the bound that is documented, whatever the values are like.
func TestQuantile(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() int64{
		"small":       func() int64 { return rnd.Int64N(20) },
		"uniform":     func() int64 { return rnd.Int64N(1e9) },
		"exponential": func() int64 { return int64(rnd.ExpFloat64() * 1e6) },
		"wide":        func() int64 { return int64(math.Exp(rnd.Float64() * 29)) },
		"one":         func() int64 { return 123_456_789 },
	} {
		t.Run(name, func(t *testing.T) {
			var h Histogram
			var all []int64
			for range 10_000 {
				v := draw()
				h.Observe(v)
				all = append(all, v)
			}
			slices.Sort(all)
			d := h.Snapshot()
			for _, q := range []float64{0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
				want := all[max(0, int(math.Ceil(q*float64(len(all))))-1)]
				if got := d.Quantile(q); math.Abs(float64(got-want)) > float64(want)/16 || got > d.Max {
					t.Errorf("quantile %v is %d, want %d", q, got, want)
				}
			}
			sum := int64(0)
			for _, v := range all {
				sum += v
			}
			if d.Count != 10_000 || d.Sum != sum || d.Max != all[len(all)-1] || d.Mean() != float64(sum)/10_000 {
				t.Errorf("count %d, sum %d, max %d", d.Count, d.Sum, d.Max)
			}
		})
	}
}

func TestEdges(t *testing.T) {
	var h Histogram
	if d := h.Snapshot(); d != (Distribution{}) || d.Quantile(0.5) != 0 || d.Mean() != 0 {
		t.Fatal(d)
	}
	h.Observe(-5)
	if d := h.Snapshot(); d.Count != 1 || d.Sum != 0 || d.Max != 0 || d.Quantile(1) != 0 {
		t.Fatal(d)
	}
	h.Observe(math.MaxInt64 / 2)
	if d := h.Snapshot(); d.Quantile(1) != math.MaxInt64/2 {
		t.Fatal(d.Quantile(1))
	}
}

func TestAddAndSince(t *testing.T) {
	var a, b, both Histogram
	for v := range int64(1000) {
		a.Observe(v)
		both.Observe(v)
	}
	first := both.Snapshot()
	for v := range int64(500) {
		b.Observe(v * v)
		both.Observe(v * v)
	}
	sum, want := a.Snapshot(), both.Snapshot()
	second := b.Snapshot()
	sum.Add(&second)
	if sum != want {
		t.Error("a and b are not both")
	}
	if later := want.Since(&first); later != second {
		t.Error("both since a is not b")
	}
	var last int64 = -1
	var count uint64
	for highest, below := range want.Buckets() {
		if highest <= last || below <= count {
			t.Fatalf("%d: %d after %d: %d", highest, below, last, count)
		}
		last, count = highest, below
	}
	if count != want.Count {
		t.Errorf("buckets hold %d, want %d", count, want.Count)
	}
}

// TestConcurrent: nothing is lost while snapshots are taken.
func TestConcurrent(t *testing.T) {
	const each = 10_000
	var h Histogram
	var wg sync.WaitGroup
	for w := range int64(4) {
		wg.Go(func() {
			for i := range int64(each) {
				h.Observe(w*each + i)
			}
		})
	}
	for range 100 {
		if d := h.Snapshot(); d.Count > 4*each {
			t.Error(d.Count)
		}
	}
	wg.Wait()
	if d := h.Snapshot(); d.Count != 4*each || d.Sum != 4*each*(4*each-1)/2 || d.Max != 4*each-1 {
		t.Error(d.Count, d.Sum, d.Max)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for v := int64(0); b.Loop(); v += 997 {
		h.Observe(v & (1<<20 - 1))
	}
}

func BenchmarkSnapshot(b *testing.B) {
	var h Histogram
	for b.Loop() {
		d := h.Snapshot()
		_ = d.Quantile(0.99)
	}
}
