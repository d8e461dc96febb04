package benchmarks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/etcd"
)

// each has b.N operations made by a number of callers, each of which waits for one before it begins the next.
func each(b *testing.B, callers int, unit string, do func(ctx context.Context) error) {
	b.Helper()
	var seen harness.Histogram
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for w := range min(callers, b.N) {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				begin := time.Now()
				if err := do(b.Context()); err != nil {
					b.Error(err)
					return
				}
				seen.Add(w, time.Since(begin))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), unit)
	quantiles(b, &seen, "")
}

// BenchmarkCall calls the Active from a standby, with 128 B, beside Puts of etcd's client by way of a follower.
func BenchmarkCall(b *testing.B) {
	request := harness.Payload(128)
	s := start(b, harness.Options{}, nil)
	standby := s.Standby()
	rival, err := etcd.Start(harness.Options{Dir: b.TempDir()})
	use(b, rival, err)
	client, err := rival.Dial()
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("system=baton/callers=%d", callers), func(b *testing.B) {
			each(b, callers, "calls/s", func(ctx context.Context) error { _, err := standby.Call(ctx, request); return err })
		})
		b.Run(fmt.Sprintf("system=etcd/callers=%d", callers), func(b *testing.B) {
			each(b, callers, "calls/s", func(ctx context.Context) error { _, err := client.Put(ctx, "key", string(request)); return err })
		})
	}
}

// BenchmarkBarrier waits until what was acknowledged can be read, on the Active and on a standby, beside linearizable Gets of
// etcd's client by way of a follower.
func BenchmarkBarrier(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	active, _ := s.Active()
	rival, err := etcd.Start(harness.Options{Dir: b.TempDir()})
	use(b, rival, err)
	client, err := rival.Dial()
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	// One reader on the Active: it waits for nothing, and many would keep the processors from the members.
	b.Run("system=baton/at=active/readers=1", func(b *testing.B) { each(b, 1, "reads/s", active.ReadBarrier) })
	for _, readers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("system=baton/at=standby/readers=%d", readers), func(b *testing.B) {
			each(b, readers, "reads/s", s.Standby().ReadBarrier)
		})
		b.Run(fmt.Sprintf("system=etcd/at=follower/readers=%d", readers), func(b *testing.B) {
			each(b, readers, "reads/s", func(ctx context.Context) error { _, err := client.Get(ctx, "key"); return err })
		})
	}
}
