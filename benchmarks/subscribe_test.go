package benchmarks

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/ha"
)

var growth = flag.Int("growth", 100_000, "records in the log that BenchmarkLog grows to; 1,000,000 takes its time")

// A stopwatch keeps when the last records were applied on the leader, by index. A local subscriber is told of a
// record's commit at the same moment as the applier, so the time between the two is the subscriber's latency.
type stopwatch struct {
	applied [1 << 16]moment
	begin   time.Time
}

type moment struct {
	index atomic.Uint64
	at    atomic.Int64 // nanoseconds since begin
}

func (s *stopwatch) apply(entries []ha.Entry) {
	now := int64(time.Since(s.begin))
	for i := range entries {
		m := &s.applied[entries[i].Index%uint64(len(s.applied))]
		m.at.Store(now)
		m.index.Store(entries[i].Index)
	}
}

// since returns how long ago the record was applied; 0 if it has not been yet.
func (s *stopwatch) since(index uint64) time.Duration {
	now := int64(time.Since(s.begin))
	m := &s.applied[index%uint64(len(s.applied))]
	if m.index.Load() != index {
		return 0
	}
	return time.Duration(max(0, now-m.at.Load()))
}

// BenchmarkSubscribe measures live subscribers beside 64 writers, and what they cost the writers: compare appends/s
// of the numbers of subscribers.
func BenchmarkSubscribe(b *testing.B) {
	for _, subscribers := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("live/payload=128/writers=64/subscribers=%d", subscribers), func(b *testing.B) { live(b, subscribers) })
	}
	b.Run("replay/payload=128", replay)
}

func live(b *testing.B, subscribers int) {
	watch := &stopwatch{begin: time.Now()}
	var leader atomic.Pointer[baton.Machine]
	s := start(b, harness.Options{}, func(_ *ha.Config, m *baton.Machine) {
		m.OnApply = func(entries []ha.Entry) {
			if leader.Load() == m {
				watch.apply(entries)
			}
		}
	})
	n, machine := s.Active()
	leader.Store(machine)
	var seen harness.Histogram
	var readers sync.WaitGroup
	ctx, cancel := context.WithCancel(b.Context())
	defer readers.Wait()
	defer cancel()
	at := make([]atomic.Uint64, subscribers)
	for i := range at {
		readers.Go(func() {
			for e, err := range n.Subscribe(ctx, 1) {
				if err != nil {
					return // ctx has ended, or it shows in at
				}
				if e.Index%8 == 0 { // reading the clock for each costs more than the record
					seen.Add(i, watch.since(e.Index))
				}
				at[i].Store(e.Index)
			}
		})
	}
	appends(b, s, 128, 64)
	last := machine.Records.Load()
	for i := range at {
		if err := harness.Until("subscriber that has all", func() bool { return at[i].Load() >= last }); err != nil {
			b.Error(err)
		}
	}
	if subscribers > 0 {
		quantiles(b, &seen, "live-")
	}
}

// replay reads records that are held in memory; an iteration reads all of them.
func replay(b *testing.B) {
	const records = 100_000 // 13 MiB: below the default of CacheBytes
	s := start(b, harness.Options{}, nil)
	share(b, s, 128, 1024, records, new(harness.Histogram))
	n, _ := s.Active()
	ctx := b.Context()
	b.SetBytes(128 * records)
	b.ReportAllocs()
	for b.Loop() {
		for e, err := range n.Subscribe(ctx, 1) {
			if err != nil {
				b.Fatal(err)
			}
			if e.Index == records {
				break
			}
		}
	}
	b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkLog appends to logs of different length: it should not matter.
func BenchmarkLog(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	_, machine := s.Active()
	for records := 0; records <= *growth; records = max(10_000, 10*records) {
		if have := int(machine.Records.Load()); have < records {
			share(b, s, 128, 1024, records-have, new(harness.Histogram))
		}
		b.Run(fmt.Sprintf("records=%d/payload=128/writers=64", records), func(b *testing.B) { appends(b, s, 128, 64) })
	}
}
