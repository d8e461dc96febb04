package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// tails measures what appends on the Active cost while a number of tails of a client read all of them from standbys, and writes a table. In each
// round each point is measured in a cluster of its own, with the tails and then without.
func (s settings) tails(ctx context.Context, count int) error {
	f, err := os.Create(s.out + ".md")
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "# Appends on the Active beside %d tails of a client, measured %s\n\n%s. Three members in three processes, writers in the Active's, the tails in a fourth. "+
		"Medians of %d rounds; the tails have read the part of what was appended that is said.\n\n"+
		"| writers of %d B | appends/s without | with | of those without | read meanwhile | p99 without, ms | with |\n|---|---|---|---|---|---|---|\n",
		count, time.Now().UTC().Format("2006-01-02 15:04 MST"), harness.Machine(), s.rounds, s.payload)
	for _, writers := range s.callers {
		var with, without, ratio, read, p99, p99without []float64
		for range s.rounds {
			a, b, part, err := s.tailsOnce(ctx, count, writers)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			with, without, ratio = append(with, a.PerSecond), append(without, b.PerSecond), append(ratio, a.PerSecond/b.PerSecond)
			read, p99, p99without = append(read, part), append(p99, a.P99.Seconds()*1000), append(p99without, b.P99.Seconds()*1000)
		}
		row := fmt.Sprintf("| %d | %.0f | %.0f | %.2f | %.2f | %.2f | %.2f |", writers, middle(without), middle(with), middle(ratio), middle(read), middle(p99without), middle(p99))
		fmt.Println(row)
		fmt.Fprintln(f, row)
	}
	return nil
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (s settings) tailsOnce(ctx context.Context, count, writers int) (with, without harness.Rate, part float64, err error) {
	c, err := find("baton")
	if err != nil {
		return with, without, 0, err
	}
	r, err := start(ctx, c, s.dir)
	if err != nil {
		return with, without, 0, err
	}
	defer r.stop()
	leader, err := r.at("leader")
	if err != nil {
		return with, without, 0, err
	}
	if _, err := r.client.ask(order{Op: "Tail", Callers: count, Load: true}); err != nil {
		return with, without, 0, err
	}
	what := order{Op: "Append", Callers: writers, Payload: s.payload, Warm: s.warm, Duration: s.duration}
	a, err := leader.ask(what)
	if err != nil {
		return with, without, 0, err
	}
	seen, serr := r.client.ask(order{}) // ends the tails
	what.Warm /= 2
	b, err := leader.ask(what)
	if err := errors.Join(serr, err); err != nil {
		return with, without, 0, err
	}
	all := a.Rate.PerSecond * (s.warm + s.duration).Seconds() // about
	return a.Rate, b.Rate, float64(seen.Read) / float64(count) / all, nil
}
