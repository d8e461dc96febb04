package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// Each member, and the clients together, are a process of their own: a copy of this program. Its role comes first to its standard
// input, then one order after the other, each of which is answered on its standard output. The end of the input tells it that the parent
// is gone.

const childArg = "-be-a-process"

// A role is what a process is.
type role struct {
	Cluster string
	Member  int // from 0 on; -1: the clients
	Place   place
}

// A place is where a cluster is.
type place struct {
	Dir     string
	Peers   []string // addresses of the members among themselves
	Clients []string // and for clients
}

// An order is something to measure, or with an empty Op the question whether the member leads.
type order struct {
	Op       string
	Callers  int
	Payload  int
	Count    int // of records, where an op reads a log
	Warm     time.Duration
	Duration time.Duration
	Profile  string // file for a CPU profile; "": none
	Load     bool   // not measured: each caller calls once, and what it has called is ended by the next order
	From     uint64 // then: the first record of those who read
	Watch    bool   // likewise, one call every millisecond; the next order asks for how long none was acknowledged
}

type verdict struct {
	Leads bool
	Rate  harness.Rate
	Usage harness.Usage
	Gap   time.Duration
	Read  uint64 // records, by tails so far
	Last  uint64 // record that the member has
	Err   string `json:",omitempty"`
}

// An end is what a process has of a cluster: a member, or a client.
type end interface {
	// Leads reports whether it is a member that leads.
	Leads() bool
	// Op returns what one operation does, nil if there is none of that name. It is called by many goroutines.
	Op(name string) func(ctx context.Context, payload []byte) error
	Close() error
}

// An operation is one as a system of the harness.
type operation struct {
	name string
	do   func(ctx context.Context, payload []byte) error
}

func (o operation) Name() string                               { return o.name }
func (o operation) Append(ctx context.Context, p []byte) error { return o.do(ctx, p) }
func (o operation) Close() error                               { return nil }

// runChild is the main function of a process.
func runChild() error {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	os.Stdout = os.Stderr // some of the peers print
	var r role
	if err := in.Decode(&r); err != nil {
		return err
	}
	e, err := r.begin()
	if err != nil {
		return errors.Join(err, out.Encode(verdict{Err: err.Error()}))
	}
	if err := out.Encode(verdict{}); err != nil {
		return err
	}
	endLoad := func() {}
	var watched *watch
	for {
		var o order
		var v verdict
		err := in.Decode(&o)
		endLoad()
		endLoad = func() {}
		if watched != nil {
			v.Gap = watched.stop()
			watched = nil
		}
		if errors.Is(err, io.EOF) {
			return e.Close()
		}
		if err != nil {
			return err
		}
		switch do := e.Op(o.Op); {
		case o.Op == "":
			v.Leads = e.Leads()
			if t, ok := e.(interface{ Read() uint64 }); ok {
				v.Read = t.Read()
			}
			if m, ok := e.(interface{ Last() uint64 }); ok {
				v.Last = m.Last()
			}
			if o.Profile != "" {
				o.profileSoon()
			}
		case do == nil:
			v.Err = "no such operation"
		case o.Watch:
			watched = startWatch(do, o.Payload)
		case o.Load:
			endLoad = o.load(do)
		default:
			v = o.measure(do)
		}
		if err := out.Encode(v); err != nil {
			return err
		}
	}
}

func (r role) begin() (end, error) {
	c, err := find(r.Cluster)
	switch {
	case err != nil:
		return nil, err
	case r.Member < 0:
		return c.dial(r.Place)
	}
	return c.serve(r.Place, r.Member)
}

func (o order) measure(do func(context.Context, []byte) error) (v verdict) {
	var around func() func()
	if o.Profile != "" {
		around = o.profile
	}
	rates, use, err := harness.Run(context.Background(), operation{o.Op, do}, o.Warm, o.Duration, around, harness.Class{Payload: o.Payload, Writers: o.Callers})
	if v.Usage = use; len(rates) == 1 {
		v.Rate = rates[0]
	}
	if err != nil {
		v.Err = err.Error()
	}
	return v
}

// load has each caller call once, and returns what ends that.
func (o order) load(do func(context.Context, []byte) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	if o.Profile != "" {
		o.profileSoon()
	}
	for range o.Callers {
		all.Go(func() {
			if err := do(ctx, binary.BigEndian.AppendUint64(nil, o.From)); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", o.Op, err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// profile begins a CPU profile, and returns what ends it.
func (o order) profile() (end func()) {
	f, err := os.Create(o.Profile)
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		panic(err)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }
}

// profileSoon writes a CPU profile of what is measured, of which another process takes the time.
func (o order) profileSoon() {
	time.AfterFunc(o.Warm, func() { time.AfterFunc(o.Duration, o.profile()) })
}

// A process is one that runs.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// spawn starts a process, and waits until it is what it is to be.
func spawn(ctx context.Context, r role) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, childArg)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the parent
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	_ = p.send(r) // an error shows in what it answers
	return p, nil
}

// send gives an order.
func (p *process) send(o any) error { return json.NewEncoder(p.in).Encode(o) }

// hear waits for the answer to one, or to the role.
func (p *process) hear() (v verdict, err error) {
	if err = p.out.Decode(&v); err == nil && v.Err != "" {
		err = errors.New(v.Err)
	}
	return v, err
}

func (p *process) ask(o order) (verdict, error) {
	if err := p.send(o); err != nil {
		return verdict{}, err
	}
	return p.hear()
}

// A cluster that runs, and its clients.
type running struct {
	cluster cluster
	place   place
	members []*process
	client  *process
	dir     string
}

// start starts a cluster of three and its clients.
func start(ctx context.Context, c cluster, dir string) (_ *running, err error) {
	r := &running{cluster: c}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	if r.dir, err = os.MkdirTemp(dir, c.name+"-"); err != nil {
		return r, err
	}
	addrs, err := harness.Ports(2 * members)
	if err != nil {
		return r, err
	}
	r.place = place{Dir: r.dir, Peers: addrs[:members], Clients: addrs[members:]}
	for i := range members {
		p, err := spawn(ctx, role{c.name, i, r.place})
		if err != nil {
			return r, err
		}
		r.members = append(r.members, p)
	}
	for _, p := range r.members {
		if _, err := p.hear(); err != nil {
			return r, fmt.Errorf("start %s: %w", c.name, err)
		}
	}
	if r.client, err = spawn(ctx, role{c.name, -1, r.place}); err != nil {
		return r, err
	}
	_, err = r.client.hear()
	return r, err
}

const members = 3

// at returns the processes at which an op is called.
func (r *running) at(where string) (*process, error) {
	if where == "client" {
		return r.client, nil
	}
	until := time.Now().Add(harness.Patience)
	for ; time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		for i, p := range r.members {
			v, err := p.ask(order{})
			if err != nil {
				return nil, err
			}
			if v.Leads {
				if where == "leader" {
					return p, nil
				}
				return r.members[(i+1)%members], nil
			}
		}
	}
	return nil, fmt.Errorf("nobody leads within %v", harness.Patience)
}

// restart starts a member whose process has ended.
func (r *running) restart(ctx context.Context, i int) error {
	p, err := spawn(ctx, role{r.cluster.name, i, r.place})
	if err != nil {
		return err
	}
	r.members[i].in.Close()
	r.members[i] = p
	_, err = p.hear()
	return err
}

// pids are those of all processes.
func (r *running) pids() (all []int) {
	for _, p := range append(r.members[:members:members], r.client) {
		all = append(all, p.cmd.Process.Pid)
	}
	return all
}

// profile has the leader write a CPU profile of so much time.
func (r *running) profile(file string, d time.Duration) error {
	p, err := r.at("leader")
	if err == nil {
		_, err = p.ask(order{Profile: file, Duration: d})
	}
	return err
}

// stop ends all processes and removes what they have written.
func (r *running) stop() {
	all := r.members
	if r.client != nil {
		all = append(all, r.client)
	}
	late := time.AfterFunc(10*time.Second, func() {
		for _, p := range all {
			_ = p.cmd.Process.Kill()
		}
	})
	defer late.Stop()
	for _, p := range all {
		p.in.Close()
	}
	for _, p := range all {
		_ = p.cmd.Wait()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}
