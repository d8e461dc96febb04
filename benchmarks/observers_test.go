package benchmarks

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/ha"
)

var observedFor = flag.Duration("observed", time.Second, "how long BenchmarkObservers measures each of its four stretches")

// observing, in the environment, makes this program a process of observers.
const observing = "BATON_BENCHMARK_OBSERVERS"

func TestMain(m *testing.M) {
	if os.Getenv(observing) != "" {
		if err := observe(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// An observer is what the process of the observers must know of one.
type observer struct {
	Name, Dir, Cluster string
	Members            []ha.Member
}

// observe runs observers until the standard input ends.
func observe() error {
	in := json.NewDecoder(os.Stdin)
	var them []observer
	if err := in.Decode(&them); err != nil {
		return err
	}
	for _, o := range them {
		n, err := ha.Open(ha.Config{Name: o.Name, Dir: o.Dir, Cluster: o.Cluster, Members: o.Members, Join: true, StateMachine: new(baton.Machine), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		defer n.Close()
	}
	fmt.Println("open")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// BenchmarkObservers measures appends without observers, beside three that follow, beside the same three once their process is stopped, so
// that they live and take nothing, and once it is dead, in one run: p99 and appends/s of each as multiples of those without.
// -benchtime=1x -count=5 shows how much of it is chance.
func BenchmarkObservers(b *testing.B) {
	for _, class := range []harness.Class{{Payload: 128, Writers: 1}, {Payload: 1 << 10, Writers: 64}} {
		b.Run(fmt.Sprintf("payload=%d/writers=%d", class.Payload, class.Writers), func(b *testing.B) {
			for b.Loop() {
				observed(b, class)
			}
		})
	}
}

func observed(b *testing.B, class harness.Class) {
	s := start(b, harness.Options{}, nil)
	leader, _ := s.Active()
	first := leader.Status().Token
	load := harness.StartLoad(b.Context(), s, class)
	defer load.Stop()
	windows := map[string]*harness.Window{}
	measure := func(what string) {
		time.Sleep(time.Second) // until it has settled
		load.Next()
		time.Sleep(*observedFor)
		windows[what] = load.Next()
	}
	measure("none")

	var them []observer
	var members []ha.Member
	for i := range 3 {
		cfg, m, err := s.Newcomer(fmt.Sprint("observer", i))
		if err != nil {
			b.Fatal(err)
		}
		them, members = append(them, observer{cfg.Name, cfg.Dir, cfg.Cluster, cfg.Members}), append(members, m)
	}
	process := exec.Command(os.Args[0])
	process.Env, process.Stderr = append(os.Environ(), observing+"=1"), os.Stderr
	in, err := process.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := process.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = process.Process.Kill() // it may be dead already
		_ = process.Wait()
	}()
	if err := json.NewEncoder(in).Encode(them); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("open\n"))); err != nil {
		b.Fatal(err)
	}
	for _, m := range members {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		err := leader.AddMember(ctx, m)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
	}
	measure("following")
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		b.Fatal(err)
	}
	measure("stalled")
	if err := process.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	measure("dead")
	load.Stop()
	if now := leader.Status().Token; now != first {
		b.Errorf("the role has moved from %v to %v", first, now)
	}
	none := windows["none"].Rate()
	b.ReportMetric(float64(none.P99)/1e6, "none-p99-ms")
	for what, w := range windows {
		if r := w.Rate(); what != "none" {
			b.ReportMetric(float64(r.P99)/float64(max(1, none.P99)), what+"-p99-times")
			b.ReportMetric(r.PerSecond/none.PerSecond, what+"-appends-times")
		}
	}
	b.ReportMetric(0, "ns/op")
}
