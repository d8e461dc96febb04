// Command outside measures what programs that are no members get of a cluster: each cluster in three processes and its clients in a
// fourth, baton beside etcd and NATS JetStream.
//
//	go run ./cmd/outside                                    # calls and reads, three rounds: 20 minutes
//	go run ./cmd/outside -ops 'baton*' -callers 64 -rounds 1 -duration 2s -profile /tmp/prof
//	go run ./cmd/outside -gaps 30                           # how long a client's writes stand when the leader is killed; 20 minutes
//	go run ./cmd/outside -tails 10 -callers 1,64            # what ten tails cost the Active's appends
//	go run ./cmd/outside -list
//	go run ./cmd/outside -render                            # the tables again, from the raw data
//
// In each round each cluster is started anew and goes through all its points.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A cluster is a kind of them.
type cluster struct {
	name  string
	serve func(p place, member int) (end, error)
	dial  func(p place) (end, error)
}

var clusters = []cluster{
	{"baton", serveBaton, dialBaton},
	{"etcd", serveEtcd, dialEtcd},
	{"nats", serveNATS, dialNATS},
}

func find(name string) (cluster, error) {
	for _, c := range clusters {
		if c.name == name {
			return c, nil
		}
	}
	return cluster{}, fmt.Errorf("no cluster is named %q", name)
}

// An op is something that is measured.
type op struct {
	cluster, name string
	at            string // "client", "follower", "leader"
	class         string // what it is compared with: "write", "read"
	about         string
}

func (o op) String() string {
	if o.at == "client" {
		return o.cluster + " " + o.name
	}
	return fmt.Sprintf("%s %s at %s", o.cluster, o.name, o.at)
}

var ops = []op{
	{"baton", "Call", "client", "write", "client.Call, ha.Nodes with default settings, no Handle"},
	{"baton", "ReadBarrier", "follower", "read", "Node.ReadBarrier in a standby's process"},
	{"etcd", "Put", "client", "write", "clientv3 that knows all servers, default settings"},
	{"etcd", "Get", "client", "read", "the same client's linearizable Get"},
	{"etcd", "Get", "follower", "read", "linearizable Get by v3client in a follower's process: no gRPC"},
	{"nats", "Publish", "client", "write", "JetStream, three replicas in files, sync always"},
	{"nats", "PublishAsync", "client", "write", "the same; each caller waits for its own before the next"},
}

// A record is one point of one op in one round: a line of the raw data.
type record struct {
	Time      time.Time
	Round     int
	Op        string
	Class     string
	Callers   int
	Rate      harness.Rate
	Usage     harness.Usage // CPU of all four processes, allocations of the one that calls
	Before    harness.Probe
	Disturbed []string `json:",omitempty"` // why it does not count
	Err       string   `json:",omitempty"` // why there is nothing
}

type settings struct {
	ops      []op
	callers  []int
	payload  int
	rounds   int
	warm     time.Duration
	duration time.Duration
	quiet    time.Duration
	dir      string
	out      string // path without extension
	profile  string
}

func main() {
	var err error
	if len(os.Args) == 2 && os.Args[1] == childArg {
		err = runChild()
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "outside:", err)
		os.Exit(1)
	}
}

func run() error {
	var s settings
	names := flag.String("ops", "*", "comma-separated ops, as -list shows them; a * at the end stands for any")
	callers := flag.String("callers", "1,64,1024", "numbers of callers")
	flag.IntVar(&s.payload, "payload", 128, "bytes of payload")
	flag.IntVar(&s.rounds, "rounds", 3, "rounds")
	flag.DurationVar(&s.duration, "duration", 6*time.Second, "measured time of a point")
	flag.DurationVar(&s.warm, "warm", 2*time.Second, "time before it that does not count")
	flag.DurationVar(&s.quiet, "quiet", 30*time.Second, "longest wait for a quiet machine before a point")
	dir := flag.String("dir", os.TempDir(), "where the members' directories are made; must be on a disk")
	results := flag.String("results", "results", "where the results are written")
	name := flag.String("name", "outside", "name of the results' files")
	flag.StringVar(&s.profile, "profile", "", "directory for CPU profiles of the leader and of who calls, with -tails of all processes; they slow them down")
	kills := flag.Int("gaps", 0, "do not measure: kill the leader so often, and see how long writes then stand; the results are named gaps")
	tails := flag.Int("tails", 0, "do not measure: append on baton's Active with and without so many tails of a client; the results are named tails")
	list := flag.Bool("list", false, "list the ops")
	render := flag.Bool("render", false, "do not measure: write the tables from the raw data")
	flag.Parse()
	if *list {
		for _, o := range ops {
			fmt.Printf("%-24s %s\n", o, o.about)
		}
		return nil
	}
	s.out = filepath.Join(*results, *name)
	if *render {
		return s.render()
	}
	for _, o := range ops {
		for _, n := range strings.Split(*names, ",") {
			if prefix, ok := strings.CutSuffix(n, "*"); n == o.String() || ok && strings.HasPrefix(o.String(), prefix) {
				s.ops = append(s.ops, o)
				break
			}
		}
	}
	for _, f := range strings.Split(*callers, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n <= 0 {
			return fmt.Errorf("-callers: %q is not a number", f)
		}
		s.callers = append(s.callers, n)
	}
	if err := harness.CheckDisk(*dir); err != nil {
		return err
	}
	var err error
	if s.dir, err = os.MkdirTemp(*dir, "baton-outside-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, d := range []string{*results, s.profile} {
		if d != "" {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
	}
	if *kills > 0 {
		s.out = filepath.Join(*results, "gaps")
		return s.gaps(ctx, *kills)
	}
	if *tails > 0 {
		s.out = filepath.Join(*results, "tails")
		return s.tails(ctx, *tails)
	}
	merr := s.measure(ctx)
	if ctx.Err() != nil {
		fmt.Println("interrupted: results of what was measured")
		merr = nil
	}
	return errors.Join(merr, s.render())
}

// measure goes through all rounds and appends each point to the raw data as soon as it is there.
func (s settings) measure(ctx context.Context) error {
	raw, err := os.Create(s.out + ".jsonl")
	if err != nil {
		return err
	}
	defer raw.Close()
	var errs []error
	for round := 1; round <= s.rounds; round++ {
		for _, c := range clusters {
			var mine []op
			for _, o := range s.ops {
				if o.cluster == c.name {
					mine = append(mine, o)
				}
			}
			if len(mine) == 0 {
				continue
			}
			err := s.cluster(ctx, c, mine, func(r record) error {
				r.Round = round
				fmt.Printf("round %d  %5d × %-24s %s\n", round, r.Callers, r.Op, r)
				if r.Err != "" {
					errs = append(errs, fmt.Errorf("%s × %d: %s", r.Op, r.Callers, r.Err))
				}
				return json.NewEncoder(raw).Encode(r)
			})
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// cluster starts one and measures its ops.
func (s settings) cluster(ctx context.Context, c cluster, mine []op, took func(record) error) error {
	r, err := start(ctx, c, s.dir)
	if err != nil {
		return err
	}
	defer r.stop()
	for _, n := range s.callers {
		for _, o := range mine {
			rec := s.one(ctx, r, o, n)
			if ctx.Err() != nil {
				return nil
			}
			if err := took(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s settings) one(ctx context.Context, r *running, o op, callers int) record {
	rec := record{Time: time.Now().UTC(), Op: o.String(), Class: o.class, Callers: callers}
	err := func() (err error) {
		if rec.Before, err = harness.AwaitQuiet(ctx, s.dir, s.quiet); err != nil {
			return err
		}
		p, err := r.at(o.at)
		if err != nil {
			return err
		}
		what := order{Op: o.name, Callers: callers, Payload: s.payload, Warm: s.warm, Duration: s.duration}
		if s.profile != "" {
			name := strings.ReplaceAll(o.String(), " ", "-")
			what.Profile, err = filepath.Abs(filepath.Join(s.profile, fmt.Sprintf("%s-%d.caller.pprof", name, callers)))
			if err != nil {
				return err
			}
		}
		if err := p.send(what); err != nil {
			return err
		}
		select {
		case <-time.After(s.warm):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if s.profile != "" {
			if err := r.profile(strings.Replace(what.Profile, "caller", "leader", 1), s.duration); err != nil {
				return err
			}
		}
		before := harness.TakeSample(r.pids()...)
		v, err := p.hear()
		if err != nil {
			return err
		}
		use := harness.TakeSample(r.pids()...).Since(before)
		use.Allocs, use.Bytes = v.Usage.Allocs, v.Usage.Bytes
		rec.Rate, rec.Usage = v.Rate, use
		rec.Disturbed = harness.Disturbed(rec.Before, use, v.Rate.Errors)
		return nil
	}()
	if err != nil {
		rec.Err = err.Error()
	}
	return rec
}

func (r record) String() string {
	if r.Err != "" {
		return "failed: " + r.Err
	}
	s := fmt.Sprintf("%9.0f/s  p50 %-9v p99 %-9v", r.Rate.PerSecond, r.Rate.P50.Round(time.Microsecond), r.Rate.P99.Round(time.Microsecond))
	if len(r.Disturbed) > 0 {
		s += "  disturbed: " + strings.Join(r.Disturbed, ", ")
	}
	return s
}
