//go:build linux

package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/agent/state"
	"github.com/baton-ha/baton/internal/loopback"
)

var (
	stateRounds = flag.Int("state.rounds", 0, "rounds of TestState_Killed; 0: it is skipped")
	stateSeed   = flag.Uint64("state.seed", 1, "of the order of what happens in them")
)

// A stateful is what programs with a state have noted.
type stateful struct {
	*testing.T
	dir                    string
	begun, records, commit int // programs that have begun; what was acknowledged last
	lastRecord, last       int // what the last one that was asked to end has left, 0 if it was not
	read                   int // bytes of the notes
}

// look reads the notes, and whether each program has begun with what those before were acknowledged.
func (s *stateful) look() {
	s.Helper()
	b, err := os.ReadFile(s.dir + "/notes")
	if err != nil && !os.IsNotExist(err) {
		s.Fatal(err)
	}
	fresh := b[s.read:]
	fresh = fresh[:strings.LastIndexByte(string(fresh), '\n')+1]
	s.read += len(fresh)
	for line := range strings.Lines(string(fresh)) {
		var word string
		var n, file int
		switch fmt.Sscan(line, &word, &n, &file); word {
		case "begin":
			s.begun++
			if n < s.records || file < s.commit {
				s.Errorf("a program begins with record %d and files of %d; acknowledged were %d and %d", n, file, s.records, s.commit)
			}
			s.records, s.commit, s.lastRecord, s.last = n, file, 0, 0
		case "record":
			s.records = n
		case "commit":
			s.commit = n
		case "last":
			s.lastRecord, s.last = n, file
		default:
			s.Errorf("a program says %s", line)
		}
	}
}

// until looks until ok.
func (s *stateful) until(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if s.look(); ok() {
			return
		}
		if time.Now().After(deadline) {
			s.logs()
			s.Fatalf("not within %v: %s; %+v", patience, what, *s)
		}
	}
}

func (s *stateful) logs() {
	logs, _ := filepath.Glob(s.dir + "/*.log")
	for _, name := range logs {
		b, _ := os.ReadFile(name)
		s.Logf("--- %s\n%s", name, b[max(0, len(b)-4000):])
	}
}

// membersOf gives members addresses.
func membersOf(t *testing.T, names ...string) (list []Member) {
	for _, name := range names {
		list = append(list, Member{Name: name, Addr: loopback.Addr(t)})
	}
	return list
}

func stateConfig(dir, name string, members []Member) string {
	text := fmt.Sprintf("name: %s\ncluster: state\ndir: %s/%s/member\nrun: [/proc/self/exe, state-program, %s/%s]\nstate: {pipe: true, dir: %s/%s/data, max_bytes: 4000000}\n"+
		"stop_timeout: 5s\ncool_down: 100ms\nmembers:\n", name, dir, name, dir, name, dir, name)
	for _, m := range members {
		text += fmt.Sprintf("  - {name: %s, addr: %q}\n", m.Name, m.Addr)
	}
	return text
}

// alone is the configuration of one that is the only member, and does not lose the role on a slow machine.
func alone(t *testing.T, dir string) Config {
	t.Helper()
	cfg, err := Read([]byte(stateConfig(dir, "a", membersOf(t, "a")) + "election_timeout: 20s\n"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A program that was asked to end, with its agent, finds all of it again: its records, and what it has left in its files.
func TestState(t *testing.T) {
	s := &stateful{T: t, dir: t.TempDir()}
	cfg := alone(t, s.dir)
	for life := range 2 {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), nil, nil) }()
		s.until("a program has begun and committed", func() bool { return s.begun == life+1 && s.commit > 2 && s.records > 10 })
		if info, err := os.Stat(cfg.commitPath()); err != nil || info.Mode()&os.ModeSocket == 0 {
			t.Errorf("the socket: %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if s.look(); s.last == 0 {
			t.Error("the program was not asked to end")
		}
		s.records, s.commit = s.lastRecord, s.last // which its agent has heard, and committed
	}
	if _, err := os.Stat(cfg.commitPath()); !os.IsNotExist(err) {
		t.Errorf("the socket is there when nobody listens: %v", err)
	}
}

// TestState_Killed has three agents with a program that writes records and commits files all the time. In each round something bad happens to the Active;
// the next program finds all that was acknowledged, and never half a commit.
//
//	go test ./internal/agent -run State -v -state.rounds=50 -timeout 1h
func TestState_Killed(t *testing.T) {
	if *stateRounds == 0 {
		t.Skip("it takes long: go test ./internal/agent -run State -state.rounds=50")
	}
	s := &stateful{T: t, dir: t.TempDir()}
	agents := map[string]*exec.Cmd{}
	names := []string{"a", "b", "c"}
	members := membersOf(t, names...)
	start := func(name string) {
		log, err := os.OpenFile(s.dir+"/"+name+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		c := exec.Command(os.Args[0], "t8-agent", s.dir+"/"+name+".yaml")
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		agents[name] = c
	}
	t.Cleanup(func() {
		for _, c := range agents {
			c.Process.Signal(syscall.SIGCONT)
			c.Process.Signal(syscall.SIGTERM)
		}
		for _, c := range agents {
			c.Wait()
		}
	})
	for _, name := range names {
		if err := os.Mkdir(s.dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.dir+"/"+name+".yaml", []byte(stateConfig(s.dir, name, members)), 0o644); err != nil {
			t.Fatal(err)
		}
		start(name)
	}
	random := rand.New(rand.NewPCG(*stateSeed, 0))
	for round := range *stateRounds {
		begun, records, commit := s.begun, s.records, s.commit
		s.until("a program makes progress", func() bool { return s.begun > 0 && s.records > records+20 && s.commit > commit+2 })
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) // it may be at anything
		victim := s.active(names)
		what := []string{"SIGKILL of the agent", "SIGKILL of the program", "SIGKILL of the guardian", "SIGSTOP of the agent", "SIGTERM of the agent"}[round%5]
		at := time.Now()
		begun = s.begun
		switch what {
		case "SIGKILL of the agent":
			agents[victim].Process.Kill()
			agents[victim].Wait()
			start(victim)
		case "SIGKILL of the program":
			s.kill("state-program", s.dir+"/"+victim)
		case "SIGKILL of the guardian":
			for _, pid := range childrenOf(agents[victim].Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		case "SIGSTOP of the agent":
			agents[victim].Process.Signal(syscall.SIGSTOP)
		case "SIGTERM of the agent":
			log := s.dir + "/" + victim + ".log"
			before, _ := os.ReadFile(log)
			agents[victim].Process.Signal(syscall.SIGTERM)
			agents[victim].Wait()
			after, _ := os.ReadFile(log)
			if s.look(); s.begun == begun && s.last > 0 && strings.Contains(string(after[len(before):]), "committed at the end") {
				s.records, s.commit = s.lastRecord, s.last
			}
			start(victim)
		}
		s.until(what+": another program has begun", func() bool { return s.begun > begun })
		agents[victim].Process.Signal(syscall.SIGCONT)
		t.Logf("%s of %s: back after %v with %d records, commit %d", what, victim, time.Since(at).Round(time.Millisecond), s.records, s.commit)
	}
	if t.Failed() {
		s.logs()
	}
}

// active is the member whose program runs.
func (s *stateful) active(names []string) (active string) {
	s.Helper()
	s.until("one program runs", func() bool {
		running := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return len(processes("state-program", s.dir+"/"+name)) == 0 })
		if len(running) == 1 {
			active = running[0]
		}
		return len(running) == 1
	})
	return active
}

func (s *stateful) kill(words ...string) {
	for _, pid := range processes(words...) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// processes are those that are this test's program with such arguments.
func processes(words ...string) (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		b, _ := os.ReadFile(p + "/cmdline")
		if string(b) == "/proc/self/exe\x00"+strings.Join(words, "\x00")+"\x00" {
			var pid int
			fmt.Sscan(filepath.Base(p), &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// childrenOf are the processes that a process has started.
func childrenOf(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(b)) {
			var child int
			fmt.Sscan(word, &child)
			pids = append(pids, child)
		}
	}
	return pids
}

// A commit that is asked for from outside.
func TestCommit(t *testing.T) {
	dir := t.TempDir()
	cfg := alone(t, dir)
	cfg.Run, cfg.State.Pipe = []string{"sleep", "1000"}, false
	file := cfg.State.Dir + "/file"
	for life := range 2 {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), nil, nil) }()
		var index uint64
		var err error
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if index, err = Commit(t.Context(), cfg.commitPath()); err == nil {
				break
			}
			if !errors.Is(err, ErrNotReached) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		if b, err := os.ReadFile(file); life > 0 && string(b) != "committed" {
			t.Errorf("the next life finds %q, %v", b, err)
		}
		if err := os.WriteFile(file, []byte(fmt.Sprint("life ", life)), 0o644); err != nil {
			t.Fatal(err)
		}
		if next, err := Commit(t.Context(), cfg.commitPath()); err != nil || next <= index {
			t.Errorf("a commit of something new: %d after %d, %v", next, index, err)
		}
		if err := os.Symlink("x", file+"link"); err != nil {
			t.Fatal(err)
		}
		if _, err := Commit(t.Context(), cfg.commitPath()); !errors.Is(err, ErrNotCommitted) || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("a symbolic link: %v", err)
		}
		os.Remove(file + "link")
		if err := os.WriteFile(file, []byte("committed"), 0o644); err != nil { // at the end
			t.Fatal(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if _, err := Commit(t.Context(), cfg.commitPath()); !errors.Is(err, ErrNotReached) {
			t.Errorf("without an agent: %v", err)
		}
		if err := os.WriteFile(file, []byte("late"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// appends are what was appended, without a log.
type appends chan []byte

func (a appends) AppendBatch(ctx context.Context, _ fence.Token, records ...[]byte) (ha.Result, error) {
	select {
	case a <- records[0]:
		return ha.Result{Index: 1}, nil
	case <-ctx.Done():
		return ha.Result{}, context.Cause(ctx)
	}
}

func (a appends) Check(fence.Token) error { return nil }

// A directory is committed again and again without being asked to.
func TestEvery(t *testing.T) {
	dir, to := t.TempDir(), make(appends)
	k := &keeper{cfg: State{Every: Duration(time.Millisecond)}, log: slog.New(slog.DiscardHandler), files: &state.Files{Node: to, Machine: new(state.Machine), Dir: dir, Max: 1 << 20}}
	var cancel context.CancelFunc
	k.role, cancel = context.WithCancel(t.Context())
	k.work.Go(k.every)
	defer k.work.Wait()
	defer cancel()
	for i := range 3 {
		if err := os.WriteFile(dir+"/file", []byte(fmt.Sprint("content ", i)), 0o644); err != nil {
			t.Fatal(err)
		}
		for deadline := time.After(patience); ; { // one may be under way
			select {
			case record := <-to:
				if strings.Contains(string(record), fmt.Sprint("content ", i)) {
					break
				}
				continue
			case <-deadline:
				t.Fatal("it is not committed")
			}
			break
		}
	}
}
