// Package metrics shows a member to Prometheus.
//
//	node, err := ha.Open(cfg)
//	...
//	registry.MustRegister(metrics.New(node))
//
// What there is, with its unit and labels, stands in docs/metrics.md. All values are read when they are collected, which takes less
// than a millisecond; between two collections nothing is done, and an append costs nothing for it. Counters start at zero with [ha.Open].
//
// Several members in one process need a label each, by any name but those of docs/metrics.md:
// prometheus.WrapRegistererWith(prometheus.Labels{"of": name}, registry).MustRegister(metrics.New(node)).
//
// Only programs that import this package have client_golang in them.
package metrics

import (
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/stats"
)

// New returns a collector of what a member does. It may be collected by any goroutine, also after the member was closed.
func New(n *ha.Node) prometheus.Collector { return collector{n} }

type collector struct{ node *ha.Node }

// Describe implements [prometheus.Collector].
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families {
		to <- f.desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	s := sample{c.node.Stats(), c.node.Status(), c.node.Members()}
	for _, f := range families {
		seen := map[string]bool{} // while a member is replaced there are two of its name
		f.collect(&s, func(value any, labels ...string) {
			if key := strings.Join(labels, "\x00"); !seen[key] {
				seen[key] = true
				to <- f.metric(value, labels)
			}
		})
	}
}

// A sample is all that is looked at for one collection.
type sample struct {
	stats   ha.Stats
	status  ha.Status
	members []ha.MemberStatus
}

// A family is one name of docs/metrics.md.
type family struct {
	name, help string
	kind       kind
	labels     []string
	scale      float64 // of a histogram: by which its values are multiplied
	bounds     []int64 // of a histogram, before that
	collect    func(s *sample, emit func(value any, labels ...string))
	desc       *prometheus.Desc
}

// A kind of metric.
type kind string

const (
	counter     kind = "counter"
	gauge       kind = "gauge"
	ofHistogram kind = "histogram"
)

func (k kind) value() prometheus.ValueType {
	if k == counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// metric makes one of a value: a number, a duration, or a distribution.
func (f *family) metric(value any, labels []string) prometheus.Metric {
	var v float64
	switch value := value.(type) {
	case stats.Distribution:
		return f.histogram(&value, labels)
	case bool:
		if value {
			v = 1
		}
	case int:
		v = float64(value)
	case int64:
		v = float64(value)
	case uint64:
		v = float64(value)
	case time.Duration:
		v = value.Seconds()
	}
	m, err := prometheus.NewConstMetric(f.desc, f.kind.value(), v, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(f.desc, err)
	}
	return m
}

// A histogram is shown with its exponential buckets (native histograms), and for whoever does not collect those with a few of
// fixed bounds.
type histogram struct {
	prometheus.Metric
	fixed []*dto.Bucket
}

// Write implements [prometheus.Metric].
func (h histogram) Write(m *dto.Metric) error {
	if err := h.Metric.Write(m); err != nil {
		return err
	}
	m.Histogram.Bucket = h.fixed
	return nil
}

// schema of the exponential buckets: eight to each power of two, as many as the distributions have. Where both have a bound, they
// differ by a sixteenth of the value at most.
const schema = 3

func (f *family) histogram(d *stats.Distribution, labels []string) prometheus.Metric {
	var h histogram
	native := map[int]int64{}
	var last, zero uint64
	for highest, below := range d.Buckets() {
		n := below - last
		for len(h.fixed) < len(f.bounds) && f.bounds[len(h.fixed)] < highest {
			h.fixed = append(h.fixed, f.bucket(len(h.fixed), last))
		}
		last = below
		switch {
		case highest == 0:
			zero = n
		case highest == math.MaxInt64: // the last bucket has no bound
			native[index(float64(d.Max)*f.scale)] += int64(n)
		default:
			native[index(float64(highest)*f.scale)] += int64(n)
		}
	}
	for len(h.fixed) < len(f.bounds) {
		h.fixed = append(h.fixed, f.bucket(len(h.fixed), last))
	}
	m, err := prometheus.NewConstNativeHistogram(f.desc, last, float64(d.Sum)*f.scale, native, nil, zero, schema, 0, time.Time{}, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(f.desc, err)
	}
	h.Metric = m
	return h
}

// index is that of the exponential bucket of a value.
func index(v float64) int { return int(math.Ceil(math.Log2(v) * (1 << schema))) }

// bucket is the i-th of fixed bounds, with so many values in it and those below.
func (f *family) bucket(i int, below uint64) *dto.Bucket {
	return &dto.Bucket{UpperBound: proto.Float64(float64(f.bounds[i]) * f.scale), CumulativeCount: proto.Uint64(below)}
}
