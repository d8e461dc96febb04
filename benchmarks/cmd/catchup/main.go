// Command catchup measures what appends cost while a follower that was away catches up from a cold disk, and while
// readers replay the log, on baton and beside it on its peers.
//
//	go run ./cmd/catchup                                  # 2 GiB, all systems, one round: about 20 minutes
//	go run ./cmd/catchup -systems baton -size 64MiB       # seconds
//	go run ./cmd/catchup -systems baton-add               # a member that is added, and lacks everything
//	go run ./cmd/catchup -systems baton -disks shared,each # one disk for all members, and one for each, in turn; as root
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
	"github.com/baton-ha/baton/ha"
)

// A system can be measured.
type system struct {
	name  string
	start func(harness.Options) (harness.Laggard, error)
	dirs  []string // of the members
	lags  string   // that of those which catches up; "": that is not known beforehand
	joins bool     // that one is added
}

// systems are in the order in which they take turns.
var systems = []system{
	{"baton", func(o harness.Options) (harness.Laggard, error) { return baton.Start(o, firstLeads) }, []string{"a", "b", "c"}, "b", false},
	{"baton-add", func(o harness.Options) (harness.Laggard, error) { return baton.StartGrowing(o) }, []string{"a", "b", "c", "new"}, "new", true},
	{"hraft-wal", func(o harness.Options) (harness.Laggard, error) { return hashiraft.Start(o, hashiraft.Settings{}) }, []string{"a", "b", "c"}, "", false},
	{"etcd", func(o harness.Options) (harness.Laggard, error) { return etcd.Start(o) }, []string{"m0", "m1", "m2"}, "", false},
}

// firstLeads has the first member be the leader, so that it is the second one that will be away.
func firstLeads(cfg *ha.Config, _ *baton.Machine) {
	cfg.Members = slices.Clone(cfg.Members)
	cfg.Members[0].Priority = 1
}

// classes are the writers whose appends are watched. Without any it is seen how fast a copy is that nothing has to come before.
var classes = []harness.Class{{Payload: 128, Writers: 1}, {Payload: 1 << 10, Writers: 64}, {}}

const childArg = "-measure-one"

// An order is what a child is to measure, on its standard input.
type order struct {
	System  string
	Dir     string
	Disks   string
	What    harness.CatchUp
	Profile string
}

// An answer is what it has measured.
type answer struct {
	Got              harness.CaughtUp
	CopyMiB, ReadMiB float64 // per second: what one core and the disk give, measured just before
}

// A record is a line of the raw data.
type record struct {
	Time   time.Time
	Round  int
	System string
	Disks  string
	What   harness.CatchUp
	answer
	Before harness.Probe
	Err    string `json:",omitempty"`
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
	out := os.Stdout
	os.Stdout = os.Stderr // some of the peers print
	i := slices.IndexFunc(systems, func(s system) bool { return s.name == o.System })
	if i < 0 {
		return fmt.Errorf("no system is named %q", o.System)
	}
	a, err := o.floor(systems[i])
	if err != nil {
		return err
	}
	sys, err := systems[i].start(harness.Options{Dir: o.Dir, Keep: o.What.Size})
	if err != nil {
		return err
	}
	var around func(string) func()
	if o.Profile != "" {
		around = func(what string) func() { return profile(filepath.Join(o.Profile, what)) }
	}
	o.What.Joins = systems[i].joins
	if a.Got, err = o.What.Run(context.Background(), sys, o.Dir, around); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(a) // the members are stopped by the end of the process
}

// floor makes the disks, and measures what they give.
func (o order) floor(s system) (a answer, err error) {
	from, to := o.Dir, o.Dir
	mounts := map[string][]string{eachDisk: s.dirs, apartDisk: {s.lags}}[o.Disks]
	if err := mountEach(o.Dir, mounts, diskSize(o.What)); err != nil {
		return a, err
	}
	if len(mounts) > 1 {
		from = filepath.Join(o.Dir, mounts[0])
	}
	if len(mounts) > 0 {
		to = filepath.Join(o.Dir, mounts[len(mounts)-1])
	}
	copied, read, err := harness.CopyFloor(from, to, o.What.Size)
	a.CopyMiB, a.ReadMiB = copied/(1<<20), read/(1<<20)
	return a, err
}

// diskSize is how large a disk in memory is: for what is missing, for what is appended meanwhile, and as much again of a checkpoint. It takes memory only as it is
// written to.
func diskSize(c harness.CatchUp) int64 { return 2*c.Size + 4<<30 }

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
	disks := flag.String("disks", sharedDisk, "comma-separated, in turn: "+strings.Join(kinds, ", ")+
		"; each: every member has a disk in memory; apart: only the one that lags. Those two take root")
	only := flag.Int("writers", -1, "only the class with so many writers: 0, 1 or 64; -1: all")
	flag.Parse()
	bytes, err := parseSize(*size)
	if err != nil {
		return err
	}
	if err := errors.Join(harness.CheckDisk(*dir), checkKinds(strings.Split(*disks, ","), strings.Split(*names, ","))); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var records []record
	for round := 1; round <= *rounds; round++ {
		for _, class := range classes {
			if *only >= 0 && *only != class.Writers {
				continue
			}
			what := harness.CatchUp{Class: class, Size: bytes, Record: 16 << 10, Readers: *readers, Quiet: *quiet, Limit: *limit}
			for name := range strings.SplitSeq(*names, ",") {
				for kind := range strings.SplitSeq(*disks, ",") {
					r := record{Time: time.Now().UTC(), Round: round, System: name, Disks: kind, What: what}
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
	o := order{System: r.System, Dir: dir, Disks: r.Disks, What: r.What}
	if prof != "" {
		o.Profile = filepath.Join(prof, fmt.Sprintf("%s-%s-%d", r.System, r.Disks, r.What.Class.Writers))
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
	if r.Disks != sharedDisk {
		ownMounts(cmd)
	}
	out, err := cmd.Output()
	if err != nil {
		tail := said.String()
		return fmt.Errorf("%w: %s", err, tail[max(0, len(tail)-2000):])
	}
	return json.Unmarshal(out, &r.answer)
}
