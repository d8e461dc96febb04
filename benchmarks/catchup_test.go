package benchmarks

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
)

var missing = flag.Int64("missing", 32, "MiB that a follower lacks, and that readers replay, in BenchmarkCatchUp; cmd/catchup measures 2,048")

// BenchmarkCatchUp measures appends while a follower catches up from disk, and while ten readers replay the log: the
// figures of each as multiples of the undisturbed ones. An iteration is all of it.
func BenchmarkCatchUp(b *testing.B) {
	for _, class := range []harness.Class{{Payload: 128, Writers: 1}, {Payload: 1 << 10, Writers: 64}} {
		b.Run(fmt.Sprintf("payload=%d/writers=%d", class.Payload, class.Writers), func(b *testing.B) {
			for b.Loop() {
				catchUp(b, class)
			}
		})
	}
}

func catchUp(b *testing.B, class harness.Class) {
	what := harness.CatchUp{Class: class, Size: *missing << 20, Record: 16 << 10, Readers: 10, Quiet: time.Second, Limit: time.Minute}
	dir := b.TempDir()
	s, err := baton.Start(harness.Options{Dir: dir, Keep: what.Size}, nil)
	if err != nil {
		b.Fatal(err)
	}
	got, err := what.Run(b.Context(), s, dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	if !got.Follower.Done || !got.Readers.Done {
		b.Errorf("not all has arrived: %+v", got)
	}
	for name, s := range map[string]harness.Stretch{"follower": got.Follower, "readers": got.Readers} {
		b.ReportMetric(float64(s.Rate.P99)/float64(max(1, got.Before.Rate.P99)), name+"-p99-times")
		b.ReportMetric(s.Rate.PerSecond/got.Before.Rate.PerSecond, name+"-appends-times")
		b.ReportMetric(s.MiB, name+"-MiB/s")
	}
	b.ReportMetric(0, "ns/op")
}
