package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// beside is what appends are measured beside, by the op of the client that it is: nothing at first, so that files and memory are warm, tails, which
// begin where the log ends then, such that borrow their records, readers of plain TCP who get the same, and nothing again, which is what counts.
var beside = [...]string{"", "Tail", "Borrow", "Plain", ""}

// An appending is what appends on the Active did beside something.
type appending struct {
	rate harness.Rate
	cpu  float64 // of all processes for each append, ms
	read float64 // part of what was appended that each reader has read, about
}

// tails measures what appends on the Active cost while a number of tails of a client read all of them from a standby, and writes a table. In each
// round each point is measured in a cluster of its own.
func (s settings) tails(ctx context.Context, count int) error {
	f, err := os.Create(s.out + ".md")
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "# Appends on the Active beside %d tails of a client, measured %s\n\n%s. Three members in three processes, writers in the Active's, the tails in a fourth. "+
		"Medians of %d rounds. Beside the tails: as many readers of plain TCP, which a standby gives the same records, without checksums and without anything else of baton.\n\n"+
		"| writers of %d B | beside | appends/s | of those beside nothing | p99, ms | CPU of all processes, µs each | read meanwhile |\n|---|---|---|---|---|---|---|\n",
		count, time.Now().UTC().Format("2006-01-02 15:04 MST"), harness.Machine(), s.rounds, s.payload)
	for _, writers := range s.callers {
		seen := make([][]appending, len(beside))
		for range s.rounds {
			all, err := s.tailsOnce(ctx, count, writers)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			for i, a := range all {
				seen[i] = append(seen[i], a)
			}
		}
		for i, what := range []string{"nothing, to begin with", fmt.Sprintf("%d tails", count), fmt.Sprintf("%d tails that borrow", count), fmt.Sprintf("%d readers of plain TCP", count), "nothing"} {
			of := func(f func(a, alone appending) float64) float64 {
				var v []float64
				for round, a := range seen[i] {
					v = append(v, f(a, seen[len(beside)-1][round]))
				}
				slices.Sort(v)
				return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
			}
			row := fmt.Sprintf("| %d | %s | %.0f | %.2f | %.2f | %.1f | %.2f |", writers, what,
				of(func(a, _ appending) float64 { return a.rate.PerSecond }), of(func(a, alone appending) float64 { return a.rate.PerSecond / alone.rate.PerSecond }),
				of(func(a, _ appending) float64 { return a.rate.P99.Seconds() * 1000 }), of(func(a, _ appending) float64 { return a.cpu * 1000 }),
				of(func(a, _ appending) float64 { return a.read }))
			fmt.Println(row)
			fmt.Fprintln(f, row)
		}
	}
	return nil
}

// profileOf is the file for the CPU profile of a process beside an op, "" if there is to be none.
func (s settings) profileOf(who, op string, writers int) string {
	if s.profile == "" {
		return ""
	}
	if op == "" {
		op = "nothing"
	}
	return filepath.Join(s.profile, fmt.Sprintf("%s-%d.%s.pprof", strings.ToLower(op), writers, who))
}

// tailsOnce measures beside each of what there is.
func (s settings) tailsOnce(ctx context.Context, count, writers int) (all []appending, err error) {
	c, err := find("baton")
	if err != nil {
		return nil, err
	}
	r, err := start(ctx, c, s.dir)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	leader, err := r.at("leader")
	if err != nil {
		return nil, err
	}
	var before uint64 // records read
	for _, op := range beside {
		if op != "" {
			v, err := leader.ask(order{})
			if err != nil {
				return nil, err
			}
			what := order{Op: op, Callers: count, Load: true, From: v.Last + 1, Profile: s.profileOf("client", op, writers), Warm: s.warm, Duration: s.duration}
			if _, err := r.client.ask(what); err != nil {
				return nil, err
			}
		}
		for i, p := range r.members {
			if p == leader || s.profile == "" {
				continue
			}
			name := s.profileOf("standby"+strconv.Itoa(i), op, writers)
			if _, err := p.ask(order{Profile: name, Warm: s.warm, Duration: s.duration}); err != nil {
				return nil, err
			}
		}
		err := leader.send(order{
			Op: "Append", Callers: writers, Payload: s.payload, Warm: s.warm, Duration: s.duration, Profile: s.profileOf("leader", op, writers),
		})
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(s.warm):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		begin := harness.TakeSample(r.pids()...)
		v, err := leader.hear()
		if err != nil {
			return nil, err
		}
		use := harness.TakeSample(r.pids()...).Since(begin)
		seen, serr := r.client.ask(order{}) // ends what reads
		if serr != nil {
			return nil, errors.Join(serr, err)
		}
		appended := v.Rate.PerSecond * (s.warm + s.duration).Seconds() // about
		all = append(all, appending{v.Rate, 1000 * use.CPU.Seconds() / float64(v.Rate.Appends), float64(seen.Read-before) / float64(count) / appended})
		before = seen.Read
	}
	return all, nil
}
