//go:build linux

package agent

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	t8Rounds = flag.Int("t8.rounds", 0, "rounds of TestT8_Agent; 0: it is skipped")
	t8Seed   = flag.Uint64("t8.seed", 1, "of the order of what happens in them")
)

const patience = time.Minute

// TestT8_Agent is T8: three agents, each in a network namespace of its own on one bridge, with an address that goes with the role; and a client in a
// fourth one, that asks the address all the time. In each round something bad happens to the Active; the service must come back elsewhere
// and there are never two of it, nor of what it has started. As root:
//
//	go test ./internal/agent -run T8 -v -t8.rounds=200 -timeout 1h
func TestT8_Agent(t *testing.T) {
	if *t8Rounds == 0 {
		t.Skip("it needs root: go test ./internal/agent -run T8 -t8.rounds=16")
	}
	n := newNet(t)
	random := rand.New(rand.NewPCG(*t8Seed, 0))
	took := map[string][]time.Duration{}
	var order []string
	for round := range *t8Rounds {
		if len(order) == 0 {
			for name := range blows {
				order = append(order, name)
			}
			slices.Sort(order)
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		name := order[0]
		order = order[1:]
		b, victim, old := blows[name], n.active, n.epoch
		at := time.Now()
		b.strike(n, victim)
		if !n.until(func() bool { return n.epoch > old && (n.active != victim || b.stays) }) {
			n.fail("round %d: %s to %s in epoch %d: the service has not come back", round, name, victim, old)
		}
		took[name] = append(took[name], n.since.Sub(at))
		b.heal(n, victim)
		n.whole()
	}
	for name, list := range took {
		slices.Sort(list)
		t.Logf("%-28s %3d rounds, back after: median %4d ms, at most %4d ms", name, len(list), list[len(list)/2].Milliseconds(), list[len(list)-1].Milliseconds())
	}
}

// A blow is what happens to the Active, and how it ends.
type blow struct {
	strike, heal func(n *network, victim string)
	stays        bool // the service may come back on the same member
}

func restart(n *network, name string) { n.agents[name].Wait(); n.start(name) }
func nothing(*network, string)        {}

var blows = map[string]blow{
	"SIGKILL of the agent":   {func(n *network, v string) { n.agents[v].Process.Kill() }, restart, false},
	"SIGKILL of the program": {func(n *network, v string) { n.signal(v, syscall.SIGKILL, "t8-service") }, nothing, true},
	"SIGKILL of agent and program": {func(n *network, v string) {
		n.agents[v].Process.Kill()
		n.signal(v, syscall.SIGKILL, "t8-service")
	}, restart, false},
	"SIGKILL of the guardian": {func(n *network, v string) { n.signal(v, syscall.SIGKILL, guardianName) }, nothing, true},
	"SIGKILL of the init":     {func(n *network, v string) { n.signal(v, syscall.SIGKILL, initName) }, nothing, true},
	"SIGKILL of agent and guardian": {func(n *network, v string) {
		n.signal(v, syscall.SIGKILL, "t8-agent", guardianName)
	}, restart, false},
	"SIGSTOP of the agent": {func(n *network, v string) { n.agents[v].Process.Signal(syscall.SIGSTOP) },
		func(n *network, v string) { n.agents[v].Process.Signal(syscall.SIGCONT) }, false},
	"SIGTERM of the agent": {func(n *network, v string) { n.agents[v].Process.Signal(syscall.SIGTERM) }, restart, false},
	"a hanging check": {func(n *network, v string) { n.write(v+".hang", "") },
		func(n *network, v string) { os.Remove(n.path(v + ".hang")) }, true},
	"a network that is cut": {func(n *network, v string) { n.ip("-n", n.ns(v), "link", "set", "eth0", "down") },
		func(n *network, v string) { n.ip("-n", n.ns(v), "link", "set", "eth0", "up") }, false},
	"SIGKILL, with a full disk": {func(n *network, v string) { n.fill(v); n.agents[v].Process.Kill() }, func(n *network, v string) {
		os.Remove(filepath.Join(n.path(v), "ballast"))
		restart(n, v)
	}, false},
}

// A network is the namespaces with their agents.
type network struct {
	*testing.T
	dir    string
	agents map[string]*exec.Cmd
	lines  chan string // of the client

	epoch  uint64
	active string
	since  time.Time
}

const virtual = "10.9.0.100"

func (n *network) ns(name string) string   { return fmt.Sprintf("baton%d-%s", os.Getpid(), name) }
func (n *network) path(name string) string { return filepath.Join(n.dir, name) }

func (n *network) write(name, text string) {
	if err := os.WriteFile(n.path(name), []byte(text), 0o644); err != nil {
		n.Fatal(err)
	}
}

func (n *network) ip(args ...string) {
	n.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func newNet(t *testing.T) *network {
	n := &network{T: t, dir: t.TempDir(), agents: map[string]*exec.Cmd{}, lines: make(chan string)}
	names := []string{"a", "b", "c"}
	for _, name := range append(names, "net") {
		n.ip("netns", "add", n.ns(name))
		t.Cleanup(func() { exec.Command("ip", "netns", "del", n.ns(name)).Run() })
		n.ip("-n", n.ns(name), "link", "set", "lo", "up")
	}
	n.ip("-n", n.ns("net"), "link", "add", "bridge", "type", "bridge")
	n.ip("-n", n.ns("net"), "addr", "add", "10.9.0.1/24", "dev", "bridge")
	n.ip("-n", n.ns("net"), "link", "set", "bridge", "up")
	var members string
	for i, name := range names {
		n.ip("-n", n.ns("net"), "link", "add", "to-"+name, "type", "veth", "peer", "name", "eth0", "netns", n.ns(name))
		n.ip("-n", n.ns("net"), "link", "set", "to-"+name, "master", "bridge", "up")
		n.ip("-n", n.ns(name), "addr", "add", fmt.Sprintf("10.9.0.%d/24", 11+i), "dev", "eth0")
		n.ip("-n", n.ns(name), "link", "set", "eth0", "up")
		members += fmt.Sprintf("  - {name: %s, addr: \"10.9.0.%d:7000\"}\n", name, 11+i)
		if err := os.Mkdir(n.path(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", n.path(name), "tmpfs", 0, "size=200m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(n.path(name), 0) })
	}
	for _, name := range names {
		n.write(name+".yaml", fmt.Sprintf("name: %s\ncluster: t8\ndir: %s\nmembers:\n%srun: [/proc/self/exe, t8-service, %s, ':80']\n", name, n.path(name)+"/member", members, n.dir)+
			"stop_timeout: 300ms\ncommand_timeout: 5s\ncool_down: 1s\naddresses: [{ip: "+virtual+"/24, device: eth0}]\n"+
			fmt.Sprintf("check: {command: [sh, -c, 'test ! -e %s.hang || sleep 1000'], interval: 100ms, timeout: 300ms, strikes: 2}\n", n.path(name)))
		n.start(name)
	}
	t.Cleanup(func() {
		for _, c := range n.agents {
			c.Process.Signal(syscall.SIGCONT)
			c.Process.Signal(syscall.SIGTERM)
		}
		for _, c := range n.agents {
			c.Wait()
		}
	})
	client := exec.Command("ip", "netns", "exec", n.ns("net"), os.Args[0], "t8-client", virtual+":80")
	client.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := client.StdoutPipe()
	if err == nil {
		err = client.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Process.Kill(); client.Wait() })
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case n.lines <- s.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	if !n.until(func() bool { return n.active != "" }) {
		n.fail("nobody serves")
	}
	n.whole()
	return n
}

// start starts an agent in its namespace.
func (n *network) start(name string) {
	log, err := os.OpenFile(n.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.Fatal(err)
	}
	defer log.Close()
	c := exec.Command("ip", "netns", "exec", n.ns(name), os.Args[0], "t8-agent", n.path(name+".yaml"))
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		n.Fatal(err)
	}
	n.agents[name] = c
}

// until hears what the client says until ok, and reports false if that takes too long.
func (n *network) until(ok func() bool) bool {
	deadline := time.After(patience)
	for !ok() {
		select {
		case line := <-n.lines:
			fields := strings.Fields(line)
			epoch, err := strconv.ParseUint(fields[0], 10, 64)
			if err != nil || len(fields) != 2 {
				n.Fatalf("the client says %q", line)
			}
			if epoch < n.epoch {
				n.Errorf("epoch %d answers after epoch %d", epoch, n.epoch)
			}
			n.epoch, n.active, n.since = epoch, fields[1], time.Now()
		case <-deadline:
			return false
		}
	}
	return true
}

// whole waits until one member has the address, and makes sure that there were never two.
func (n *network) whole() {
	n.Helper()
	two, _ := filepath.Glob(n.path("*.two"))
	for _, path := range two {
		b, _ := os.ReadFile(path)
		n.fail("%s: %s", path, b)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		holders := 0
		for name := range n.agents {
			out, err := exec.Command("ip", "-n", n.ns(name), "-o", "addr", "show", "dev", "eth0").Output()
			if err != nil {
				n.Fatal(err)
			}
			if strings.Contains(string(out), virtual+"/") {
				holders++
			}
		}
		if holders == 1 {
			break
		}
		if time.Now().After(deadline) {
			n.fail("%d members have the address", holders)
		}
	}
	time.Sleep(time.Second) // so that a member that was restarted is there; nothing but the times depends on it
}

func (n *network) fail(format string, args ...any) {
	n.Helper()
	for name := range n.agents {
		b, _ := os.ReadFile(n.path(name + ".log"))
		n.Logf("--- %s\n%s", name, b[max(0, len(b)-4000):])
	}
	n.Fatalf(format, args...)
}

// signal sends a signal to those processes of a member whose command line has one of the words.
func (n *network) signal(name string, s syscall.Signal, words ...string) {
	own, err := os.Stat("/run/netns/" + n.ns(name))
	if err != nil {
		n.Fatal(err)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		b, _ := os.ReadFile(p + "/cmdline")
		if ns, err := os.Stat(p + "/ns/net"); err != nil || !os.SameFile(own, ns) {
			continue
		}
		for _, word := range words {
			if slices.Contains(strings.Split(string(b), "\x00"), word) {
				pid, _ := strconv.Atoi(filepath.Base(p))
				_ = syscall.Kill(pid, s)
			}
		}
	}
}

// fill leaves no byte on a member's disk.
func (n *network) fill(name string) {
	f, err := os.Create(filepath.Join(n.path(name), "ballast"))
	if err != nil {
		n.Fatal(err)
	}
	defer f.Close()
	piece := make([]byte, 1<<16)
	for err == nil {
		_, err = f.Write(piece)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		n.Fatal(err)
	}
}
