// Command compare measures baton beside its peers and writes raw data, a table and a picture.
//
//	go run ./cmd/compare                                   # everything, three rounds: more than an hour
//	go run ./cmd/compare -systems 'baton,hraft-wal*' -payloads 128 -writers 64,1024 -rounds 1 -duration 2s
//	go run ./cmd/compare -delays 0,1ms,20ms -writers 1024 -systems 'baton,hraft-wal*' -name wan
//	go run ./cmd/compare -members 3,5,7 -systems baton -name growth
//	go run ./cmd/compare -verify                           # does each system sync and replicate?
//	go run ./cmd/compare -render                           # table and picture again, from the raw data
//
// Systems are interleaved: in each round, for each point, all systems take their turn. Interrupted with Ctrl-C it
// writes table and picture of what was measured.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A record is one point of one system in one round: a line of the raw data.
type record struct {
	Time      time.Time
	Round     int
	System    string
	Point     point
	Rate      harness.Rate
	Usage     harness.Usage
	Before    harness.Probe
	Disturbed []string `json:",omitempty"` // why it does not count
	Err       string   `json:",omitempty"` // why there is nothing
}

type settings struct {
	systems  []system
	points   []point
	rounds   int
	warm     time.Duration
	duration time.Duration
	quiet    time.Duration
	dir      string
	out      string // path without extension
	profile  string
	trace    bool
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == childArg {
		runChild()
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run() error {
	var s settings
	systems := flag.String("systems", "all", "comma-separated names; a * at the end stands for any")
	payloads := flag.String("payloads", "128,1024,16384", "bytes of payload")
	writers := flag.String("writers", "1,64,1024", "numbers of writers")
	members := flag.String("members", "3", "numbers of members")
	delays := flag.String("delays", "", "delays of the network between members, one way; empty: no proxies")
	preloads := flag.String("preloads", "0", "records in the log before the measurement")
	flag.IntVar(&s.rounds, "rounds", 3, "rounds")
	flag.DurationVar(&s.duration, "duration", 8*time.Second, "measured time of a point")
	flag.DurationVar(&s.warm, "warm", 2*time.Second, "time before it that does not count")
	flag.DurationVar(&s.quiet, "quiet", time.Minute, "longest wait for a quiet machine before a point")
	dir := flag.String("dir", os.TempDir(), "where the members' directories are made; must be on a disk")
	results := flag.String("results", "results", "where the results are written")
	name := flag.String("name", "compare", "name of the results' files")
	flag.StringVar(&s.profile, "profile", "", "directory for profiles of each point; they slow it down")
	flag.BoolVar(&s.trace, "trace", false, "with -profile: those of blocking, mutexes and the scheduler too, which slow it down much")
	list := flag.Bool("list", false, "list the systems")
	verify := flag.Bool("verify", false, "do not measure: count syncs with strace and append without followers")
	render := flag.Bool("render", false, "do not measure: write table and picture from the raw data")
	flag.Parse()
	if *list {
		for _, s := range all {
			fmt.Printf("%-20s %s\n", s.name, s.about)
		}
		return nil
	}
	s.out = filepath.Join(*results, *name)
	if *render {
		return s.render()
	}
	var err error
	if s.systems, err = choose(*systems); err != nil {
		return err
	}
	if s.points, err = points(*payloads, *writers, *members, *delays, *preloads); err != nil {
		return err
	}
	if err := harness.CheckDisk(*dir); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp(*dir, "baton-compare-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *verify {
		return s.verify(ctx, os.Stdout)
	}
	if err := os.MkdirAll(*results, 0o755); err != nil {
		return err
	}
	merr := s.measure(ctx)
	if ctx.Err() != nil {
		fmt.Println("interrupted: results of what was measured")
		merr = nil
	}
	return errors.Join(merr, s.render())
}

func points(payloads, writers, members, delays, preloads string) ([]point, error) {
	var errs []error
	ints := func(name, list string) (out []int) {
		for _, f := range strings.Split(list, ",") {
			n, err := strconv.Atoi(f)
			if err != nil || n < 0 || n == 0 && name != "preloads" {
				errs = append(errs, fmt.Errorf("-%s: %q is not a number", name, f))
			}
			out = append(out, n)
		}
		return out
	}
	base := []point{{}}
	if delays != "" {
		base = nil
		for _, f := range strings.Split(delays, ",") {
			d, err := time.ParseDuration(f)
			if err != nil || d < 0 {
				errs = append(errs, fmt.Errorf("-delays: %q is no delay", f))
			}
			base = append(base, point{Shim: true, Delay: d})
		}
	}
	var out []point
	for _, p := range base {
		for _, p.Members = range ints("members", members) {
			for _, p.Preload = range ints("preloads", preloads) {
				for _, p.Payload = range ints("payloads", payloads) {
					for _, p.Writers = range ints("writers", writers) {
						out = append(out, p)
					}
				}
			}
		}
	}
	return out, errors.Join(errs...)
}

// measure goes through all rounds and appends each point to the raw data as soon as it is there.
func (s settings) measure(ctx context.Context) error {
	raw, err := os.Create(s.out + ".jsonl")
	if err != nil {
		return err
	}
	defer raw.Close()
	total, n, failed := 0, 0, 0
	for _, p := range s.points {
		for _, sys := range s.systems {
			if sys.measures(p) {
				total += s.rounds
			}
		}
	}
	fmt.Printf("%d points, at least %v\n", total, time.Duration(total)*(s.warm+s.duration+time.Second))
	for round := 1; round <= s.rounds; round++ {
		for _, p := range s.points {
			for _, sys := range s.systems {
				if !sys.measures(p) {
					continue
				}
				n++
				r := s.one(ctx, sys, p)
				if ctx.Err() != nil {
					return nil
				}
				r.Round = round
				if r.Err != "" {
					failed++
				}
				fmt.Printf("%3d/%d  round %d  %-22s %-18s %s\n", n, total, round, p, sys.name, r)
				line, err := json.Marshal(r)
				if err != nil {
					return err
				}
				if _, err := raw.Write(append(line, '\n')); err != nil {
					return err
				}
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d points failed", failed, total)
	}
	return nil
}

func (s settings) one(ctx context.Context, sys system, p point) record {
	r := record{Time: time.Now().UTC(), System: sys.name, Point: p}
	var err error
	if r.Before, err = harness.AwaitQuiet(ctx, s.dir, s.quiet); err == nil {
		o := order{System: sys.name, Point: p, Dir: s.dir, Warm: s.warm, Duration: s.duration}
		if s.profile != "" {
			o.Trace = s.trace
			o.Profile, err = filepath.Abs(filepath.Join(s.profile, fmt.Sprintf("%s-%d-%d", sys.name, p.Payload, p.Writers)))
			if err == nil {
				err = os.MkdirAll(o.Profile, 0o755)
			}
		}
		if err == nil {
			var v verdict
			v, err = o.send(ctx)
			r.Rate, r.Usage = v.Rate, v.Usage
		}
	}
	if err != nil {
		r.Err = err.Error()
		return r
	}
	r.Disturbed = harness.Disturbed(r.Before, r.Usage, r.Rate.Errors)
	return r
}

func (r record) String() string {
	if r.Err != "" {
		return "failed: " + r.Err
	}
	s := fmt.Sprintf("%9.0f/s  p50 %-9v p99 %-9v", r.Rate.PerSecond, round3(r.Rate.P50), round3(r.Rate.P99))
	if len(r.Disturbed) > 0 {
		s += "  disturbed: " + strings.Join(r.Disturbed, ", ")
	}
	return s
}

// round3 keeps three digits.
func round3(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}

// render writes table and picture from the raw data.
func (s settings) render() error {
	records, err := harness.ReadLines[record](s.out + ".jsonl")
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return errors.New("nothing was measured")
	}
	sum := summarize(records)
	write := func(ext string, to func(io.Writer) error) error {
		f, err := os.Create(s.out + ext)
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		return errors.Join(to(w), w.Flush(), f.Close())
	}
	table := func(w io.Writer) error {
		sum.markdown(w)
		return nil
	}
	err = errors.Join(write(".md", table), write(".svg", sum.svg))
	fmt.Printf("wrote %s.jsonl, .md and .svg\n", s.out)
	return err
}
