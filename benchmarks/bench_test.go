package benchmarks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/benchmarks/internal/systems/floor"
	"github.com/baton-ha/baton/benchmarks/internal/systems/hashiraft"
	"github.com/baton-ha/baton/ha"
)

// In all benchmarks of appends one iteration is one append; the iterations are shared out among the writers, each of
// which waits for its append before it takes the next one. [testing.B.RunParallel] would do it if it could run one
// writer on two processors. A cluster is started once and used by the sub-benchmarks for all values of b.N.

// start starts a cluster of baton for a benchmark.
func start(b *testing.B, o harness.Options, edit func(*ha.Config, *baton.Machine)) *baton.System {
	b.Helper()
	o.Dir = b.TempDir()
	s, err := baton.Start(o, edit)
	return use(b, s, err)
}

// use closes a system at the end of a benchmark.
func use[S harness.System](b *testing.B, s S, err error) S {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// appends runs b.N appends and reports what they reached.
func appends(b *testing.B, s harness.System, payload, writers int) {
	b.Helper()
	var seen harness.Histogram
	b.SetBytes(int64(payload))
	b.ReportAllocs()
	b.ResetTimer()
	share(b, s, payload, writers, b.N, &seen)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
	quantiles(b, &seen, "")
}

// share has n appends made by a number of writers. One that is refused is tried again: a disk that stalls can cost
// the leader its role, which is to be seen in the figures, and is no reason to have none.
func share(b *testing.B, s harness.System, payload, writers, n int, seen *harness.Histogram) {
	b.Helper()
	// dragonboat and the like want a deadline.
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	record := harness.Payload(payload)
	var next, failed atomic.Int64
	var last atomic.Pointer[error]
	var all sync.WaitGroup
	for w := range min(writers, n) {
		all.Go(func() {
			ctx, cancel := context.WithCancel(ctx) // of its own, as requests have
			defer cancel()
			for next.Add(1) <= int64(n) {
				begin := time.Now()
				for {
					err := s.Append(ctx, record)
					if err == nil {
						break
					}
					if last.Store(&err); ctx.Err() != nil || time.Since(begin) > harness.Patience {
						b.Errorf("append: %v", err)
						return
					}
					failed.Add(1)
					time.Sleep(time.Millisecond)
				}
				seen.Add(w, time.Since(begin))
			}
		})
	}
	all.Wait()
	if f := failed.Load(); f > 0 {
		b.Logf("%d appends were refused and tried again, last with: %v", f, *last.Load())
		b.ReportMetric(float64(f), "refused")
	}
}

func quantiles(b *testing.B, seen *harness.Histogram, prefix string) {
	b.Helper()
	b.ReportMetric(float64(seen.Quantile(.5)), prefix+"p50-ns")
	b.ReportMetric(float64(seen.Quantile(.99)), prefix+"p99-ns")
}

func BenchmarkAppend(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	for _, payload := range []int{128, 1 << 10, 16 << 10} {
		for _, writers := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("payload=%d/writers=%d", payload, writers), func(b *testing.B) { appends(b, s, payload, writers) })
		}
	}
}

// BenchmarkSingleMember compares a cluster of one with a bare loop that group-commits to etcd's WAL.
func BenchmarkSingleMember(b *testing.B) {
	bare, err := floor.NewWAL(harness.Options{Dir: b.TempDir()})
	use(b, bare, err)
	one := start(b, harness.Options{Members: 1}, nil)
	for _, s := range []harness.System{bare, one} {
		b.Run(fmt.Sprintf("system=%s/payload=128/writers=64", s.Name()), func(b *testing.B) { appends(b, s, 128, 64) })
	}
}

func BenchmarkMembers(b *testing.B) {
	for _, members := range []int{3, 5, 7} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			s := start(b, harness.Options{Members: members}, nil)
			for _, writers := range []int{64, 1024} {
				b.Run(fmt.Sprintf("payload=128/writers=%d", writers), func(b *testing.B) { appends(b, s, 128, writers) })
			}
		})
	}
}

func BenchmarkWriters(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	for _, writers := range []int{1, 4, 16, 64, 256, 1024, 4096} {
		b.Run(fmt.Sprintf("payload=128/writers=%d", writers), func(b *testing.B) { appends(b, s, 128, writers) })
	}
}

// BenchmarkWAN delays every byte between the members in each direction, for baton and for hashicorp/raft by the same
// proxies.
func BenchmarkWAN(b *testing.B) {
	for _, delay := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
		for _, name := range []string{"baton", "hraft-wal-tuned"} {
			b.Run(fmt.Sprintf("delay=%v/system=%s", delay, name), func(b *testing.B) {
				o := harness.Options{Dir: b.TempDir(), Shim: true, Delay: delay}
				var s harness.System
				var err error
				if name == "baton" {
					s, err = baton.Start(o, nil)
				} else {
					s, err = hashiraft.Start(o, hashiraft.Settings{Tuned: true})
				}
				use(b, s, err)
				for _, writers := range []int{1, 1024} {
					b.Run(fmt.Sprintf("payload=128/writers=%d", writers), func(b *testing.B) { appends(b, s, 128, writers) })
				}
			})
		}
	}
}

// BenchmarkBulkBeside measures one writer of 128 bytes beside 1,024 of 16 KiB. An iteration is one small append.
// batch-ns is the mean time between two applied groups of records, within which the small one can be at best.
func BenchmarkBulkBeside(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	_, machine := s.Active()
	ctx, cancel := context.WithCancel(context.Background())
	bulk := harness.Payload(16 << 10)
	var big harness.Histogram
	var writers sync.WaitGroup
	for w := range 1024 {
		writers.Go(func() {
			for ctx.Err() == nil {
				begin := time.Now()
				if s.Append(ctx, bulk) != nil {
					time.Sleep(time.Millisecond) // the small writer sees it too, and reports it
					continue
				}
				big.Add(w, time.Since(begin))
			}
		})
	}
	defer writers.Wait()
	defer cancel()
	b.Run("payload=128/writers=1", func(b *testing.B) {
		var small harness.Histogram
		b.ResetTimer()
		calls, bulks := machine.Calls.Load(), big.Count()
		share(b, s, 128, 1, b.N, &small)
		b.StopTimer()
		calls, bulks = machine.Calls.Load()-calls, big.Count()-bulks
		batch := float64(b.Elapsed()) / float64(max(1, calls))
		quantiles(b, &small, "")
		b.ReportMetric(batch, "batch-ns")
		b.ReportMetric(float64(small.Quantile(.99))/batch, "p99/batch")
		b.ReportMetric(float64(big.Quantile(.5)), "bulk-p50-ns")
		b.ReportMetric(float64(bulks)/b.Elapsed().Seconds(), "bulk-appends/s")
	})
}
