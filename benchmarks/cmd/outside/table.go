package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A cell is what all rounds say about an op with a number of callers: medians of the rounds that count, or, if none does, of all.
type cell struct {
	rounds, counted int
	rate, low, high float64
	p50, p99, cpu   float64 // cpu: ms of all four processes for each
	class, op       string
	callers         int
}

func cells(records []record) (all []cell) {
	type key struct {
		op      string
		callers int
	}
	groups := map[key][]record{}
	var order []key
	for _, r := range records {
		k := key{r.Op, r.Callers}
		if r.Err != "" {
			continue
		}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], r)
	}
	for _, k := range order {
		all = append(all, newCell(groups[k]))
	}
	return all
}

func newCell(rs []record) cell {
	c := cell{rounds: len(rs), class: rs[0].Class, op: rs[0].Op, callers: rs[0].Callers}
	var good []record
	for _, r := range rs {
		if len(r.Disturbed) == 0 {
			good = append(good, r)
		}
	}
	if c.counted = len(good); c.counted == 0 {
		good = rs
	}
	of := func(f func(record) float64) (low, mid, high float64) {
		var v []float64
		for _, r := range good {
			v = append(v, f(r))
		}
		slices.Sort(v)
		n := len(v)
		return v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]
	}
	c.low, c.rate, c.high = of(func(r record) float64 { return r.Rate.PerSecond })
	_, c.p50, _ = of(func(r record) float64 { return r.Rate.P50.Seconds() * 1000 })
	_, c.p99, _ = of(func(r record) float64 { return r.Rate.P99.Seconds() * 1000 })
	_, c.cpu, _ = of(func(r record) float64 { return 1000 * r.Usage.CPU.Seconds() / float64(r.Rate.Appends) })
	return c
}

func (s settings) render() error {
	records, err := harness.ReadLines[record](s.out + ".jsonl")
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("nothing was measured")
	}
	f, err := os.Create(s.out + ".md")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	markdown(w, records)
	err = errors.Join(w.Flush(), f.Close())
	fmt.Printf("wrote %s.jsonl and .md\n", s.out)
	return err
}

func markdown(w io.Writer, records []record) {
	all := cells(records)
	fmt.Fprintf(w, "# From outside, measured %s\n\n%s. Each cluster in three processes, the callers in a fourth. Medians of the rounds that count (lowest–highest);\n"+
		"† marks those of which every round was disturbed, which show what all rounds say. The last column is baton's rate as a multiple.\n",
		records[0].Time.Format("2006-01-02 15:04 MST"), harness.Machine())
	for _, class := range []string{"write", "read"} {
		fmt.Fprintf(w, "\n## %ss\n\n| callers | what | per second | p50, ms | p99, ms | CPU, ms | rounds | baton is |\n|---|---|---|---|---|---|---|---|\n", class)
		var callers []int
		for _, c := range all {
			if c.class == class && !slices.Contains(callers, c.callers) {
				callers = append(callers, c.callers)
			}
		}
		slices.Sort(callers)
		for _, n := range callers {
			var ours float64
			for _, c := range all {
				if c.class != class || c.callers != n {
					continue
				}
				mark, times := "", ""
				if c.counted == 0 {
					mark = " †"
				}
				if strings.HasPrefix(c.op, "baton") {
					ours = c.rate
				} else if ours > 0 {
					times = fmt.Sprintf("%.1f ×", ours/c.rate)
				}
				fmt.Fprintf(w, "| %d | %s | %.0f (%.0f–%.0f)%s | %.2f | %.2f | %.3f | %d of %d | %s |\n", n, c.op, c.rate, c.low, c.high, mark, c.p50, c.p99, c.cpu, c.counted, c.rounds, times)
			}
		}
	}
	for _, r := range records {
		if r.Err != "" {
			fmt.Fprintf(w, "\nFailed: %s × %d, round %d: %s\n", r.Op, r.Callers, r.Round, r.Err)
		}
	}
}
