//go:build unix

package client_test

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/internal/parallel"
)

var killed = flag.Duration("killed", 0, "for how long TestT12_Killed kills and stops the processes of members; 0: it is skipped")

// childVariable tells a process of this test that it is a member.
const childVariable = "BATON_CLIENT_TEST_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		runChild(text)
		return
	}
	parallel.Main(m, 10)
}

// runChild is a member whose Active appends, as fast as it can, what it is called with, too. It ends with its standard input, so
// that it does not outlive the test.
func runChild(text string) {
	var cfg ha.Config
	var c struct {
		Name, Dir string
		Members   []ha.Member
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	cfg.Name, cfg.Dir, cfg.Members, cfg.Cluster = c.Name, c.Dir, c.Members, "test"
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.CheckpointBytes = 1 << 20
	appending(&cfg)
	cfg.OnActive = func(ctx context.Context, token fence.Token) error {
		n := ha.FromContext(ctx)
		for i := uint64(1); ctx.Err() == nil; i++ {
			_, _ = n.Append(ctx, token, number(token.Epoch<<32|i)) // an error ends with the role, or is another's affair
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	n, err := ha.Open(cfg)
	if err != nil {
		panic(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	n.Close()
}

// A process is a member's.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func (c *cluster) spawn(name string) process {
	c.t.Helper()
	text, err := json.Marshal(map[string]any{"Name": name, "Dir": filepath.Join(c.dir, name), "Members": c.members})
	if err != nil {
		c.t.Fatal(err)
	}
	p := process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return p
}

// T12, T20: the processes of members are killed and stopped again and again. Two readers see 1 … n, and the same; calls take effect once.
//
// Run it with: go test ./ha/client -run Killed -killed=60s -v
func TestT12_Killed(t *testing.T) {
	if *killed == 0 {
		t.Skip("see -killed")
	}
	t.Parallel()
	c := &cluster{t: t, dir: t.TempDir(), nodes: map[string]*ha.Node{}}
	for _, name := range []string{"a", "b", "c"} {
		c.members = append(c.members, ha.Member{Name: name, Addr: loopback.Addr(t)})
	}
	processes := map[string]process{}
	for _, m := range c.members {
		processes[m.Name] = c.spawn(m.Name)
	}
	defer func() {
		for _, p := range processes {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	}()
	cl := dial(t, c.addrs()...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	var seen [2]atomic.Uint64
	var values sync.Map // by index
	var made sync.Map   // how often a call was seen in the log, by its number
	for i := range seen {
		all.Go(func() {
			next := uint64(1)
			for e, err := range cl.Subscribe(ctx, 1) {
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("reader %d, before record %d: %v", i, next, err)
					}
					return
				}
				if e.Index != next {
					t.Errorf("reader %d: record %d comes where %d should", i, e.Index, next)
				}
				if v, there := values.LoadOrStore(e.Index, value(e.Data)); there && v != value(e.Data) {
					t.Errorf("reader %d: record %d is %d, and was %d for the other one", i, e.Index, value(e.Data), v)
				}
				if v := value(e.Data); v>>63 == 1 && i == 0 {
					if _, twice := made.LoadOrStore(v, true); twice {
						t.Errorf("call %d has taken effect twice", v&^(1<<63))
					}
				}
				next = e.Index + 1
				seen[i].Store(e.Index)
			}
		})
	}
	var calls atomic.Uint64
	var longest atomic.Int64
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				v := 1<<63 | calls.Add(1)
				began := time.Now()
				if _, err := cl.Call(ctx, number(v)); err != nil && ctx.Err() == nil {
					t.Errorf("call %d: %v", v&^(1<<63), err)
				}
				if took := time.Since(began); took > time.Duration(longest.Load()) {
					longest.Store(int64(took))
				}
			}
		})
	}
	kills, stops := 0, 0
	var gaps []time.Duration // from the end of the Active to the first answer of a call that was made then
	for until := time.Now().Add(*killed); time.Now().Before(until); {
		from := [2]uint64{seen[0].Load(), seen[1].Load()}
		name := c.members[rand.N(3)].Name
		p := processes[name]
		if rand.N(4) == 0 {
			stops++
			if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.N(int64(3 * time.Second))))
			if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		} else {
			kills++
			active := cl.Cluster().Active == name
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
			if active {
				began := time.Now()
				if _, err := cl.Call(ctx, number(1<<63|calls.Add(1))); err != nil {
					t.Errorf("call after a kill: %v", err)
				}
				gaps = append(gaps, time.Since(began))
			}
			time.Sleep(time.Duration(rand.N(int64(300 * time.Millisecond))))
			processes[name] = c.spawn(name)
		}
		eventually(t, "both readers get on", func() bool { return seen[0].Load() > from[0]+20 && seen[1].Load() > from[1]+20 })
	}
	t.Logf("%d kills, %d stops: %d records read, %d calls, the longest took %v", kills, stops, seen[0].Load(), calls.Load(),
		time.Duration(longest.Load()).Round(time.Millisecond))
	slices.Sort(gaps)
	if n := len(gaps); n > 0 {
		t.Logf("after %d kills of the Active a call took %v at the least, %v in the median, %v at most", n, gaps[0], gaps[n/2], gaps[n-1])
	}
	if calls.Load() < 10 {
		t.Error("nothing was called")
	}
}
