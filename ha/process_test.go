package ha_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/parallel"
	"github.com/baton-ha/baton/storage"
)

// The tests that need real processes run this very binary again, as a member.

const childVariable = "BATON_TEST_CHILD"

// A child is what a process is told to be.
type child struct {
	Name, Dir, Cluster, Bind   string
	Members                    []ha.Member
	Heartbeat, ElectionTimeout time.Duration
	Writers                    int           // that append while it is the Active
	Pace                       time.Duration // between two appends of a writer; 0: as fast as it can
	CatchUp                    uint64        // report when it works and this record is known here
	Join, Heal, NoHeir         bool
	Host                       string // the network namespace to run in; "": this one
	OpenOnly                   bool   // report how Open ends, and end
	Patient                    bool   // whatever is told to go wrong goes wrong: moods
	Names                      string // be a name server for what this file says
}

// opened is what an OpenOnly child reports.
type opened struct {
	Err                         string
	Locked, Forgotten, Identity bool
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		var c child
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		c.run()
		os.Exit(0)
	}
	parallel.Main(m, 10)
}

func (c child) config() ha.Config {
	return ha.Config{
		Name: c.Name, Dir: c.Dir, Cluster: c.Cluster, Bind: c.Bind, Members: c.Members,
		Heartbeat: c.Heartbeat, ElectionTimeout: c.ElectionTimeout, Join: c.Join, Heal: c.Heal, NoHeir: c.NoHeir, Logger: slog.New(slog.DiscardHandler),
	}
}

// run is the child's main. It ends with its standard input, so that it does not outlive the test.
//
// It prints "C" when it has caught up and may vote, "R epoch nanoseconds records" when it is the Active and has applied so many, "E epoch nanoseconds" when its time is over, "F epoch nanoseconds" when OnActive returns, "A index value nanoseconds" for
// each acknowledged append, "D value" for a definite error and "U value" for an unknown outcome. On its input it takes the lines "close", "standby",
// which it answers with "S error" (Become), and "add name addr", "remove name" and "replace name", which it answers with "M name" once that is done.
func (c child) run() {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one write each
	}
	if c.Names != "" {
		panic(serveNames(c.Names))
	}
	if c.OpenOnly {
		n, err := ha.Open(c.config())
		var o opened
		if err == nil {
			n.Close()
		} else {
			var identity *storage.IdentityError
			o = opened{err.Error(), errors.Is(err, storage.ErrLocked), errors.Is(err, ha.ErrForgotten), errors.As(err, &identity)}
		}
		if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
			panic(err)
		}
		return
	}
	cfg := c.config()
	applied := new(counter)
	cfg.StateMachine = applied
	ready := make(chan *ha.Node, 1)
	cfg.OnActive = func(ctx context.Context, token fence.Token) error {
		n := <-ready
		ready <- n
		_, records := applied.value()
		say("R %d %d %d", token.Epoch, time.Now().UnixNano(), records)
		context.AfterFunc(ctx, func() { say("E %d %d", token.Epoch, time.Now().UnixNano()) })
		var all sync.WaitGroup
		for w := range c.Writers {
			all.Go(func() {
				for i := uint64(1); ctx.Err() == nil; i++ {
					time.Sleep(c.Pace)
					v := token.Epoch<<40 | uint64(w)<<32 | i
					switch index, err := n.Append(context.Background(), token, number(v)); {
					case err == nil:
						say("A %d %d %d", index, v, time.Now().UnixNano())
					case errors.Is(err, ha.ErrUnknown):
						say("U %d", v)
						return
					default:
						say("D %d", v)
						return
					}
				}
			})
		}
		all.Wait()
		say("F %d %d", token.Epoch, time.Now().UnixNano())
		return nil
	}
	m := newMoods()
	if c.Patient {
		m.install(&cfg)
	}
	n, err := ha.Open(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ready <- n
	go func() {
		for s := n.Status(); s.Index < c.CatchUp || s.State != ha.Standby && s.State != ha.Active; s = n.Status() {
			time.Sleep(time.Millisecond)
		}
		say("C")
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch command, name, _ := strings.Cut(lines.Text(), " "); command {
		case "close":
			n.Close()
			return
		case "standby":
			go func() { // where no other is alive and caught up for a moment, nothing has changed
				err := ha.ErrNoSuccessor
				for errors.Is(err, ha.ErrNoSuccessor) {
					time.Sleep(time.Millisecond)
					err = n.Become(context.Background(), ha.Standby)
				}
				say("S %v", err)
			}()
		case "add", "remove", "replace":
			name, addr, _ := strings.Cut(name, " ")
			change := map[string]func() error{
				"add":     func() error { return n.AddMember(context.Background(), ha.Member{Name: name, Addr: addr}) },
				"remove":  func() error { return n.RemoveMember(context.Background(), name) },
				"replace": func() error { return n.ReplaceMember(context.Background(), name) },
			}[command]
			for change() != nil {
				time.Sleep(time.Millisecond)
			}
			say("M %s", name)
		default:
			go m.command(n, command, name)
		}
	}
}

// A process is a running child.
type process struct {
	cmd   *exec.Cmd
	lines chan string   // what it prints; closed at its end
	stop  chan struct{} // closed when nobody reads lines any more
	stdin io.WriteCloser
}

// spawn starts a child, which is killed at the end of the test at the latest.
func spawn(t *testing.T, c child) *process {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{os.Args[0], "-test.run=^$"}
	if c.Host != "" {
		args = append([]string{"ip", "netns", "exec", c.Host}, args...)
	}
	p := &process{cmd: exec.Command(args[0], args[1:]...), lines: make(chan string), stop: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case p.lines <- s.Text():
			case <-p.stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(p.stop)
		p.kill()
		for range p.lines {
		}
	})
	return p
}

// kill kills the process if it still runs. What it has printed can still be read.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Process.Wait()
	p.stdin.Close()
}

// openElsewhere opens a member in another process and tells how that ended.
func openElsewhere(t *testing.T, cfg ha.Config) (o opened) {
	t.Helper()
	p := spawn(t, child{
		Name: cfg.Name, Dir: cfg.Dir, Cluster: cfg.Cluster, Bind: cfg.Bind, Members: cfg.Members,
		Heartbeat: cfg.Heartbeat, ElectionTimeout: cfg.ElectionTimeout, OpenOnly: true,
	})
	line := receive(t, "the answer of a second process", p.lines)
	for range p.lines { // until its end
	}
	if err := json.NewDecoder(strings.NewReader(line)).Decode(&o); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return o
}
