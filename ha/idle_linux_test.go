package ha_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var idleTime = flag.Duration("idle.time", 0, "for how long TestIdle measures members that have nothing to do; 0: it does not run")

// A spent is what a process has used up until a moment.
type spent struct {
	cpu      time.Duration
	switches int // of its threads, to wait for something
	resident int // KiB
}

// spentBy reads what a process has used up.
func spentBy(t *testing.T, pid int) (s spent) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("process %d: %d tasks, %v", pid, len(tasks), err)
	}
	for _, task := range tasks {
		run, err := os.ReadFile(filepath.Join(task, "schedstat")) // to the nanosecond, where stat counts in ticks
		if err != nil {
			t.Fatal(err)
		}
		s.cpu += time.Duration(numberAfter(t, run, ""))
		status, err := os.ReadFile(filepath.Join(task, "status"))
		if err != nil {
			t.Fatal(err)
		}
		s.switches += numberAfter(t, status, "\nvoluntary_ctxt_switches:")
		s.resident = numberAfter(t, status, "\nVmRSS:")
	}
	return s
}

// numberAfter returns the first number behind a word.
func numberAfter(t *testing.T, text []byte, word string) int {
	t.Helper()
	_, rest, ok := bytes.Cut(text, []byte(word))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) == 0 {
		t.Fatalf("no %q in %q", word, text)
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIdle measures what three members at default settings cost, each a process, while nobody appends. For the figures:
//
//	go test ./ha -run TestIdle -v -idle.time=30s
func TestIdle(t *testing.T) {
	if *idleTime == 0 {
		t.Skip("no -idle.time")
	}
	c := newCluster(t, 3, nil)
	w := newWitness(t)
	running := map[string]*process{}
	for _, m := range c.members {
		cfg := c.config(m.Name)
		running[m.Name] = spawn(t, child{Name: cfg.Name, Dir: cfg.Dir, Cluster: cfg.Cluster, Members: cfg.Members})
		w.listen(m.Name, running[m.Name])
	}
	w.until("everybody works", func() bool { return len(w.settled) == 3 && w.active != "" })
	time.Sleep(*idleTime / 6) // what a start brings is over
	const most = 0.005        // of a processor
	before, began, epoch := map[string]spent{}, time.Now(), w.epoch
	for name, p := range running {
		before[name] = spentBy(t, p.cmd.Process.Pid)
	}
	time.Sleep(*idleTime)
	took := time.Since(began)
	for _, m := range c.members {
		was, is := before[m.Name], spentBy(t, running[m.Name].cmd.Process.Pid)
		role, share := "standby", float64(is.cpu-was.cpu)/float64(took)
		if m.Name == w.active {
			role = "active"
		}
		t.Logf("%s, %s: %.2f %% of a processor, %.0f waits of its threads a second, %.1f MiB resident", m.Name, role,
			100*share, float64(is.switches-was.switches)/took.Seconds(), float64(is.resident)/1024)
		if share > most {
			t.Errorf("%s costs %.2f %% of a processor while nobody appends, more than %.1f %%", m.Name, 100*share, 100*most)
		}
	}
	if w.epoch != epoch {
		t.Errorf("the role has changed: epoch %d, then %d", epoch, w.epoch)
	}
}
