package benchmarks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/metrics"
)

// serveMetrics serves the metrics of members over HTTP.
func serveMetrics(b *testing.B, nodes ...*ha.Node) (url string) {
	registry := prometheus.NewRegistry()
	for i, n := range nodes {
		prometheus.WrapRegistererWith(prometheus.Labels{"of": string(rune('a' + i))}, registry).MustRegister(metrics.New(n))
	}
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	b.Cleanup(server.Close)
	return server.URL
}

func scrape(b *testing.B, url string) {
	resp, err := http.Get(url)
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < 10_000 || resp.StatusCode != http.StatusOK {
		b.Errorf("a scrape: %s, %d bytes, %v", resp.Status, n, err)
	}
}

// BenchmarkScrape is one scrape of one member. cpu-ns is the time of processors that the process has used, both sides of it.
func BenchmarkScrape(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	var seen harness.Histogram
	share(b, s, 128, 64, 10_000, &seen) // so that there is something in the histograms
	url := serveMetrics(b, s.Nodes[0])
	before := harness.TakeSample()
	b.ResetTimer()
	for range b.N {
		scrape(b, url)
	}
	b.StopTimer()
	b.ReportMetric(float64(harness.TakeSample().Since(before).CPU)/float64(b.N), "cpu-ns")
}

// BenchmarkMetrics measures what it costs the appends that all three members are scraped. An iteration is a pair of slices of time, one in which that is
// done and one in which it is not, in changing order, while the writers go on. cost-% is by how much less was appended while it was done, of the median
// pair, and low-% and high-% are the quartiles. Once a second, as one does it, costs less than two slices differ by themselves; so it is also done a hundred
// times a second, where it shows: once costs a hundredth of that.
func BenchmarkMetrics(b *testing.B) {
	s := start(b, harness.Options{}, nil)
	url := serveMetrics(b, s.Nodes...)
	for _, writers := range []int{1, 64, 1024} {
		for _, c := range []struct {
			every time.Duration
			times int // of a slice
		}{{time.Second, 1}, {10 * time.Millisecond, 20}} {
			b.Run(fmt.Sprintf("payload=128/writers=%d/scrapes=%d", writers, time.Second/c.every), func(b *testing.B) {
				load := harness.StartLoad(context.Background(), s, harness.Class{Payload: 128, Writers: writers})
				slice := func(scraped bool) *harness.Window {
					load.Next()
					tick := time.NewTicker(c.every)
					defer tick.Stop()
					for range c.times {
						if scraped {
							scrape(b, url)
						}
						<-tick.C
					}
					return load.Next()
				}
				slice(true) // warm
				type pair struct{ with, without *harness.Window }
				var pairs []pair
				b.ResetTimer()
				for i := range b.N {
					first := slice(i%2 == 0)
					second := slice(i%2 != 0)
					if i%2 != 0 {
						first, second = second, first
					}
					pairs = append(pairs, pair{first, second})
				}
				b.StopTimer()
				load.Stop()
				var costs []float64
				for _, p := range pairs {
					costs = append(costs, 100*(1-p.with.Rate().PerSecond/p.without.Rate().PerSecond))
				}
				slices.Sort(costs)
				b.ReportMetric(costs[len(costs)/4], "low-%")
				b.ReportMetric(costs[len(costs)/2], "cost-%")
				b.ReportMetric(costs[len(costs)*3/4], "high-%")
			})
		}
	}
}
