package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// Each point is measured in a process of its own, a copy of this program, so that no heap and no leftover of one
// system is in the way of another. An order goes to its standard input, which stays open: its end tells the child
// that the parent is gone. A verdict comes back from its standard output.

const childArg = "-measure-one-point"

type order struct {
	System   string
	Point    point
	Dir      string
	Warm     time.Duration
	Duration time.Duration
	Profile  string // directory for profiles of the measured time; "": none
	Trace    bool   // with those that slow it down much
	Verify   bool   // instead of measuring
}

type verdict struct {
	Rate   harness.Rate
	Usage  harness.Usage
	Refuse string `json:",omitempty"` // of Verify: what Append said without followers
	Err    string `json:",omitempty"`
}

// runChild is the main function of the child.
func runChild() {
	var o order
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&o); err != nil {
		fmt.Fprintln(os.Stderr, "child: read order:", err)
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	out := os.Stdout
	os.Stdout = os.Stderr // some of the peers print
	v, err := o.carryOut()
	if err != nil {
		v.Err = err.Error()
	}
	if err := json.NewEncoder(out).Encode(v); err != nil {
		fmt.Fprintln(os.Stderr, "child: write verdict:", err)
		os.Exit(1)
	}
}

func (o order) carryOut() (v verdict, err error) {
	s, ok := find(o.System)
	if !ok {
		return v, fmt.Errorf("no system is named %q", o.System)
	}
	sys, err := s.start(harness.Options{Dir: o.Dir, Members: o.Point.Members, Shim: o.Point.Shim, Delay: o.Point.Delay})
	if err != nil {
		return v, fmt.Errorf("start %s: %w", o.System, err)
	}
	if o.Verify {
		v.Refuse, err = verifyQuorum(sys, o.Point.Payload)
		return v, err // the members are stopped by the end of the process
	}
	if err := preload(sys, o.Point); err != nil {
		return v, err
	}
	var around func() func()
	if o.Profile != "" {
		around = func() func() { return profile(o.Profile, o.Trace) }
	}
	rates, use, err := harness.Run(context.Background(), sys, o.Warm, o.Duration, around, harness.Class{Payload: o.Point.Payload, Writers: o.Point.Writers})
	if len(rates) == 1 {
		v.Rate = rates[0]
	}
	v.Usage = use
	if err != nil {
		return v, err
	}
	return v, sys.Close()
}

// preload fills the log.
func preload(sys harness.System, p point) error {
	var next atomic.Int64
	var writers sync.WaitGroup
	var first atomic.Pointer[error]
	payload := harness.Payload(p.Payload)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for range min(1024, p.Preload) {
		writers.Go(func() {
			for next.Add(1) <= int64(p.Preload) {
				if err := sys.Append(ctx, payload); err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	writers.Wait()
	if err := first.Load(); err != nil {
		return fmt.Errorf("preload: %w", *err)
	}
	return nil
}

// verifyQuorum appends while all members live, and then without followers: that must not be acknowledged.
func verifyQuorum(sys harness.System, size int) (string, error) {
	q, ok := sys.(harness.Quorum)
	if !ok {
		return "no cluster", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := sys.Append(ctx, harness.Payload(size)); err != nil {
		return "", fmt.Errorf("append with all members: %w", err)
	}
	if err := q.StopFollowers(); err != nil {
		return "", fmt.Errorf("stop the followers: %w", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- sys.Append(ctx, harness.Payload(size)) }()
	select {
	case err := <-answer:
		if err == nil {
			return "", errors.New("append without followers was acknowledged")
		}
		return err.Error(), nil
	case <-time.After(5 * time.Second):
		return "no answer in 5s", nil
	}
}

// profile records profiles until the function that it returns is called: those of CPU and allocations, or those of
// blocking, mutexes and the scheduler too.
func profile(dir string, all bool) (end func()) {
	create := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			panic(err)
		}
		return f
	}
	cpu, names := create("cpu.pprof"), []string{"allocs"}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		panic(err)
	}
	if all {
		names = append(names, "block", "mutex")
		runtime.SetBlockProfileRate(10_000)
		runtime.SetMutexProfileFraction(10)
		tr := create("trace.out")
		time.AfterFunc(200*time.Millisecond, func() {
			if trace.Start(tr) == nil {
				time.AfterFunc(300*time.Millisecond, trace.Stop)
			}
		})
	}
	return func() {
		pprof.StopCPUProfile()
		cpu.Close()
		for _, name := range names {
			f := create(name + ".pprof")
			if err := pprof.Lookup(name).WriteTo(f, 0); err != nil {
				panic(err)
			}
			f.Close()
		}
	}
}

// send has an order carried out by a child. wrap is put before its command line.
func (o order) send(ctx context.Context, wrap ...string) (v verdict, err error) {
	self, err := os.Executable()
	if err != nil {
		return v, err
	}
	if o.Dir, err = os.MkdirTemp(o.Dir, "point-"); err != nil {
		return v, err
	}
	defer os.RemoveAll(o.Dir)
	ctx, cancel := context.WithTimeout(ctx, o.Warm+o.Duration+3*time.Minute)
	defer cancel()
	line := append(wrap, self, childArg)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the parent
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return v, err
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		return v, err
	}
	if err := json.NewEncoder(in).Encode(o); err != nil {
		return v, errors.Join(err, cmd.Cancel(), cmd.Wait())
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &v)
	}
	if err != nil {
		tail := said.Bytes()
		return v, fmt.Errorf("child: %w: …%s", err, tail[max(0, len(tail)-2000):])
	}
	if v.Err != "" {
		return v, errors.New(v.Err)
	}
	return v, nil
}
