// Command catchup measures what appends cost while a follower that was away catches up from a cold disk, and while
// readers replay the log, on baton and beside it on its peers.
//
//	go run ./cmd/catchup                                  # 2 GiB, all systems, one round: about 15 minutes
//	go run ./cmd/catchup -systems baton -size 64MiB       # seconds
//	go run ./cmd/catchup -systems baton-add               # a member that is added, and lacks everything
//	go run ./cmd/catchup -systems baton -profile /tmp/p   # CPU and scheduler of each stretch
//
// It writes results/catchup.jsonl, the raw data, and results/catchup.md. Each system and class of writers is measured
// in a process of its own, with all three members in it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/benchmarks/internal/systems/etcd"
	"github.com/baton-ha/baton/benchmarks/internal/systems/hashiraft"
)

// A system can be measured.
type system struct {
	name  string
	start func(harness.Options) (harness.Laggard, error)
}

// systems are in the order in which they take turns.
var systems = []system{
	{"baton", func(o harness.Options) (harness.Laggard, error) { return baton.Start(o, nil) }},
	{"baton-add", func(o harness.Options) (harness.Laggard, error) { return baton.StartGrowing(o) }},
	{"hraft-wal", func(o harness.Options) (harness.Laggard, error) { return hashiraft.Start(o, hashiraft.Settings{}) }},
	{"etcd", func(o harness.Options) (harness.Laggard, error) { return etcd.Start(o) }},
}

// classes are the writers whose appends are watched.
var classes = []harness.Class{{Payload: 128, Writers: 1}, {Payload: 1 << 10, Writers: 64}}

const childArg = "-measure-one"

// An order is what a child is to measure, on its standard input.
type order struct {
	System  string
	Dir     string
	What    harness.CatchUp
	Profile string
}

// A record is a line of the raw data.
type record struct {
	Time    time.Time
	Round   int
	System  string
	What    harness.CatchUp
	Got     harness.CaughtUp
	CopyMiB float64 // per second: what one core and the disk give, measured just before
	ReadMiB float64
	Before  harness.Probe
	Err     string `json:",omitempty"`
}

func main() {
	err := errors.New("a child is given an order")
	if len(os.Args) == 2 && os.Args[1] == childArg {
		err = child()
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "catchup:", err)
		os.Exit(1)
	}
}

// child measures, and answers on its standard output.
func child() error {
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	answer := os.Stdout
	os.Stdout = os.Stderr // some of the peers print
	i := slices.IndexFunc(systems, func(s system) bool { return s.name == o.System })
	if i < 0 {
		return fmt.Errorf("no system is named %q", o.System)
	}
	sys, err := systems[i].start(harness.Options{Dir: o.Dir, Keep: o.What.Size})
	if err != nil {
		return err
	}
	var around func(string) func()
	if o.Profile != "" {
		around = func(what string) func() { return profile(filepath.Join(o.Profile, what)) }
	}
	got, err := o.What.Run(context.Background(), sys, o.Dir, around)
	if err != nil {
		return err
	}
	return json.NewEncoder(answer).Encode(got) // the members are stopped by the end of the process
}

// profile writes a CPU profile, and a trace of half a second in the middle.
func profile(path string) func() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	cpu, err := os.Create(path + ".cpu")
	must(err)
	tr, err := os.Create(path + ".trace")
	must(err)
	must(pprof.StartCPUProfile(cpu))
	traced := make(chan struct{})
	time.AfterFunc(time.Second, func() {
		defer close(traced)
		must(trace.Start(tr))
		time.Sleep(500 * time.Millisecond)
		trace.Stop()
	})
	return func() {
		pprof.StopCPUProfile()
		<-traced
		heap, err := os.Create(path + ".heap")
		must(err)
		must(pprof.Lookup("heap").WriteTo(heap, 0))
		must(errors.Join(cpu.Close(), tr.Close(), heap.Close()))
	}
}

func run() error {
	names := flag.String("systems", "baton,hraft-wal,etcd", "comma-separated names")
	size := flag.String("size", "2GiB", "what is appended while a follower is away, and replayed by each reader: MiB or GiB")
	readers := flag.Int("readers", 10, "readers that replay at the same time")
	rounds := flag.Int("rounds", 1, "rounds")
	quiet := flag.Duration("quiet", 5*time.Second, "how long the undisturbed load is measured")
	limit := flag.Duration("limit", 2*time.Minute, "how long the follower, and then the readers, are waited for")
	wait := flag.Duration("wait", time.Minute, "longest wait for a quiet machine before each point")
	dir := flag.String("dir", os.TempDir(), "where the members' directories are made; must be on a disk")
	results := flag.String("results", "results", "where the results are written")
	prof := flag.String("profile", "", "directory for profiles; they slow it down")
	only := flag.Int("writers", 0, "only the class with so many writers")
	flag.Parse()
	bytes, err := parseSize(*size)
	if err != nil {
		return err
	}
	if err := harness.CheckDisk(*dir); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var records []record
	for round := 1; round <= *rounds; round++ {
		for _, class := range classes {
			if *only != 0 && *only != class.Writers {
				continue
			}
			for name := range strings.SplitSeq(*names, ",") {
				r := record{Time: time.Now().UTC(), Round: round, System: name, What: harness.CatchUp{
					Class: class, Size: bytes, Record: 16 << 10, Readers: *readers, Quiet: *quiet, Limit: *limit,
				}}
				if err := r.measure(ctx, *dir, *prof, *wait); err != nil {
					r.Err = err.Error()
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				r.print(os.Stdout)
				records = append(records, r)
			}
		}
	}
	return write(filepath.Join(*results, "catchup"), records)
}

func parseSize(s string) (int64, error) {
	for suffix, unit := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			v, err := strconv.ParseInt(n, 10, 32)
			return v * unit, err
		}
	}
	return 0, fmt.Errorf("size %q: want a number of MiB or GiB", s)
}

// measure has a child measure.
func (r *record) measure(ctx context.Context, dir, prof string, wait time.Duration) (err error) {
	if dir, err = os.MkdirTemp(dir, "baton-catchup-"); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if r.Before, err = harness.AwaitQuiet(ctx, dir, wait); err != nil {
		return err
	}
	copied, read, err := harness.CopyFloor(dir, r.What.Size)
	if err != nil {
		return err
	}
	r.CopyMiB, r.ReadMiB = copied/(1<<20), read/(1<<20)
	o := order{System: r.System, Dir: dir, What: r.What}
	if prof != "" {
		o.Profile = filepath.Join(prof, fmt.Sprintf("%s-%d", r.System, r.What.Class.Writers))
		if err := os.MkdirAll(o.Profile, 0o755); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	in, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd := exec.CommandContext(ctx, self, childArg)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(in)), &said
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.Output()
	if err != nil {
		tail := said.String()
		return fmt.Errorf("%w: %s", err, tail[max(0, len(tail)-2000):])
	}
	return json.Unmarshal(out, &r.Got)
}
