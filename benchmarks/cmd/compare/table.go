package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A cell is what all rounds say about one system at one point: medians of the rounds that count, or, if none does,
// of all.
type cell struct {
	rounds, counted      int
	rate                 median
	mib                  float64
	p50, p99, p999       median // nanoseconds
	allocs, bytes, cpu   float64
	steal, othersPercent float64 // highest
}

type median struct{ low, mid, high float64 }

// disturbed reports whether no round counts.
func (c cell) disturbed() bool { return c.counted == 0 }

type summary struct {
	systems []string
	points  []point
	cells   map[string]map[point]cell
	begin   time.Time
	records int
	dropped int
	failed  []string
}

func summarize(records []record) summary {
	s := summary{cells: map[string]map[point]cell{}, begin: records[0].Time, records: len(records)}
	groups := map[string]map[point][]record{}
	for _, r := range records {
		if r.Err != "" {
			s.failed = append(s.failed, fmt.Sprintf("%s at %s, round %d: %s", r.System, r.Point, r.Round, r.Err))
			continue
		}
		if groups[r.System] == nil {
			groups[r.System] = map[point][]record{}
		}
		groups[r.System][r.Point] = append(groups[r.System][r.Point], r)
		if !slices.Contains(s.points, r.Point) {
			s.points = append(s.points, r.Point)
		}
		if len(r.Disturbed) > 0 {
			s.dropped++
		}
	}
	for _, sys := range all {
		if groups[sys.name] == nil {
			continue
		}
		s.systems = append(s.systems, sys.name)
		s.cells[sys.name] = map[point]cell{}
		for p, rs := range groups[sys.name] {
			s.cells[sys.name][p] = newCell(rs)
		}
	}
	return s
}

func newCell(rs []record) cell {
	c := cell{rounds: len(rs)}
	var good []record
	for _, r := range rs {
		if len(r.Disturbed) == 0 {
			good = append(good, r)
		}
	}
	if c.counted = len(good); c.counted == 0 {
		good = rs
	}
	of := func(f func(record) float64) median {
		var v []float64
		for _, r := range good {
			v = append(v, f(r))
		}
		slices.Sort(v)
		n := len(v)
		return median{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
	}
	per := func(v float64, r record) float64 { return v / float64(r.Rate.Appends) }
	c.rate = of(func(r record) float64 { return r.Rate.PerSecond })
	c.mib = of(func(r record) float64 { return r.Rate.MiB }).mid
	c.p50 = of(func(r record) float64 { return float64(r.Rate.P50) })
	c.p99 = of(func(r record) float64 { return float64(r.Rate.P99) })
	c.p999 = of(func(r record) float64 { return float64(r.Rate.P999) })
	c.allocs = of(func(r record) float64 { return per(float64(r.Usage.Allocs), r) }).mid
	c.bytes = of(func(r record) float64 { return per(float64(r.Usage.Bytes), r) }).mid
	c.cpu = of(func(r record) float64 { return per(1000*r.Usage.CPU.Seconds(), r) }).mid
	c.steal = of(func(r record) float64 { return 100 * r.Usage.Steal }).high
	c.othersPercent = of(func(r record) float64 { return 100 * r.Usage.OthersUser }).high
	return c
}

func (s summary) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Measured %s\n\n%s. %d points measured, %d disturbed", s.begin.Format("2006-01-02 15:04 MST"), harness.Machine(), s.records, s.dropped)
	fmt.Fprintf(w, " and not counted; they are in the raw data. † marks cells in which every round was disturbed: the figures are of those rounds.\n")
	s.table(w, "Appends per second: median (lowest–highest)", func(c cell) string {
		return fmt.Sprintf("%s (%s–%s)", number(c.rate.mid), number(c.rate.low), number(c.rate.high))
	})
	s.table(w, "Latency: p50 / p99 / p99.9, milliseconds", func(c cell) string {
		return fmt.Sprintf("%s / %s / %s", millis(c.p50.mid), millis(c.p99.mid), millis(c.p999.mid))
	})
	s.table(w, "MiB of payload per second", func(c cell) string { return fmt.Sprintf("%.1f", c.mib) })
	s.table(w, "Cost of an append, whole process: allocations / bytes allocated / CPU milliseconds", func(c cell) string {
		return fmt.Sprintf("%.1f / %s / %.3f", c.allocs, number(c.bytes), c.cpu)
	})
	s.table(w, "Disturbance: highest steal / other processes, % of the machine; rounds counted of all", func(c cell) string {
		return fmt.Sprintf("%.1f / %.1f; %d of %d", c.steal, c.othersPercent, c.counted, c.rounds)
	})
	s.ratios(w)
	for _, f := range s.failed {
		fmt.Fprintf(w, "\nFailed: %s\n", f)
	}
}

func (s summary) table(w io.Writer, title string, text func(cell) string) {
	fmt.Fprintf(w, "\n## %s\n\n| point | %s |\n|---|%s\n", title, strings.Join(s.systems, " | "), strings.Repeat("---|", len(s.systems)))
	for _, p := range s.points {
		fmt.Fprintf(w, "| %s |", p)
		for _, name := range s.systems {
			c, ok := s.cells[name][p]
			switch {
			case !ok:
				fmt.Fprint(w, " – |")
			case c.disturbed():
				fmt.Fprintf(w, " %s † |", text(c))
			default:
				fmt.Fprintf(w, " %s |", text(c))
			}
		}
		fmt.Fprintln(w)
	}
}

// ratios compares baton with the best peer at each point: each figure with the peer that is best at that figure.
func (s summary) ratios(w io.Writer) {
	if s.cells["baton"] == nil {
		return
	}
	type figure struct {
		name string
		of   func(cell) float64
		more bool // more is better
	}
	figures := []figure{
		{"appends/s", func(c cell) float64 { return c.rate.mid }, true},
		{"p50", func(c cell) float64 { return c.p50.mid }, false},
		{"p99", func(c cell) float64 { return c.p99.mid }, false},
		{"appends per CPU second", func(c cell) float64 { return 1 / c.cpu }, true},
		{"allocations", func(c cell) float64 { return c.allocs }, false},
	}
	fmt.Fprintf(w, "\n## baton as a multiple of the best peer at the point (in brackets: which)\n\n| point |")
	for _, f := range figures {
		fmt.Fprintf(w, " %s |", f.name)
	}
	fmt.Fprintf(w, " p50 / (p50 of three files + of ping-pong) | appends/s / three files |\n|---|%s\n", strings.Repeat("---|", len(figures)+2))
	for _, p := range s.points {
		b, ok := s.cells["baton"][p]
		if !ok {
			continue
		}
		fmt.Fprintf(w, "| %s |", p)
		for _, f := range figures {
			best, who := math.NaN(), ""
			for _, name := range s.systems {
				c, ok := s.cells[name][p]
				if sys, _ := find(name); !ok || name == "baton" || sys.floor {
					continue
				}
				if v := f.of(c); who == "" || f.more == (v > best) {
					best, who = v, name
				}
			}
			if who == "" {
				fmt.Fprint(w, " – |")
				continue
			}
			fmt.Fprintf(w, " %.2f (%s) |", f.of(b)/best, who)
		}
		files, ok1 := s.cells["floor-fdatasync-3"][p]
		pong, ok2 := s.cells["floor-pingpong"][p]
		if ok1 && ok2 {
			fmt.Fprintf(w, " %.2f |", b.p50.mid/(files.p50.mid+pong.p50.mid))
		} else {
			fmt.Fprint(w, " – |")
		}
		if ok1 {
			fmt.Fprintf(w, " %.2f |\n", b.rate.mid/files.rate.mid)
		} else {
			fmt.Fprint(w, " – |\n")
		}
	}
}

// number writes three digits, with thousands apart.
func number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-2)
	text := fmt.Sprintf("%.0f", math.Round(v/unit)*unit)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func millis(ns float64) string { return fmt.Sprintf("%.3g", ns/1e6) }
