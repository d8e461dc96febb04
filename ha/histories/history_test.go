package histories

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

var (
	runs  = flag.Int("runs", 3, "how many histories are made")
	first = flag.Uint64("first", 1, "the seed of the first of them")
	lasts = flag.Duration("lasts", 6*time.Second, "how long the faults of one go on")
	cuts  = flag.Bool("cuts", false, "give each process a network namespace, and cut them off, too; needs root, ip and nft")
)

// input is a call, and output what it was answered, if that is known.
type input struct {
	op, key string
	n       string
}

type output struct {
	known bool
	value string
}

// registers is the model of a register whose state is a number, and of a queue whose state is the numbers in it.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(input).key
			byKey[k] = append(byKey[k], o)
		}
		var all [][]porcupine.Operation
		for _, h := range byKey {
			all = append(all, h)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		now, i, o := state.(string), in.(input), out.(output)
		next, answer := step(now, i)
		return !o.known || o.value == answer, next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%v = %v", in, out) },
}

// step is what a command does to a register or a queue alone.
func step(now string, i input) (next, answer string) {
	m := newMachine()
	if strings.HasPrefix(i.key, "q") {
		for _, f := range strings.Fields(now) {
			m.do("enq " + i.key + " " + f)
		}
	} else if now != "" {
		m.do("set " + i.key + " " + now)
	}
	op := i.op
	if op == "read" {
		op = "get"
	}
	answer = m.do(op + " " + i.key + " " + i.n)
	if strings.HasPrefix(i.key, "q") {
		var left []string
		for _, n := range m.state.Queues[i.key] {
			left = append(left, fmt.Sprint(n))
		}
		return strings.Join(left, " "), answer
	}
	return m.get(i.key), answer
}

// A court hears the processes.
type court struct {
	*testing.T
	mu      sync.Mutex // guards everything below
	history []porcupine.Operation
	open    map[string]porcupine.Operation // by process and call
	noted   map[string]int                 // what else the processes say has happened
	active  string                         // the process that has become Active last
	unknown int
}

// hear takes a line of a process.
func (c *court) hear(process, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := strings.Fields(line)
	if f[0] == "N" {
		if c.noted[f[1]]++; f[1] == "active" {
			c.active = process
		}
		return
	}
	id := process + " " + f[1]
	op := c.open[id]
	switch f[0] {
	case "B":
		in := input{op: f[3], key: f[4]}
		if len(f) > 5 {
			in.n = f[5]
		}
		c.open[id] = porcupine.Operation{Input: in, Call: number(f[2]), Metadata: id}
		return
	case "E":
		op.Output, op.Return = output{true, f[3]}, number(f[2])
		c.history = append(c.history, op)
	case "L":
		op.Output, op.Return = output{}, number(f[2])
		c.history = append(c.history, op)
		c.noted["lost"]++
	case "U":
		c.never(op)
	}
	delete(c.open, id)
}

// never takes note of a call that may take effect at any time, or never.
func (c *court) never(op porcupine.Operation) {
	if i := op.Input.(input).op; i == "get" || i == "read" {
		return
	}
	c.unknown++
	op.Output, op.Return = output{}, math.MaxInt64
	c.history = append(c.history, op)
}

func number(text string) (n int64) {
	_, _ = fmt.Sscan(text, &n)
	return n
}

// A process is a member that runs.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	over  chan struct{} // closed when all that it has said was heard
	done  chan struct{} // closed when it has stopped calling
	last  chan struct{} // closed when it has read everything
}

// spawn starts a member, which is killed at the end of the test at the latest.
func (c *court) spawn(m member, number int) *process {
	text, err := json.Marshal(m)
	if err != nil {
		c.Fatal(err)
	}
	p := &process{name: fmt.Sprintf("%s%d", m.Name, number), over: make(chan struct{}), done: make(chan struct{}), last: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], "-test.run=^$")
	if m.Host != "" {
		p.cmd = exec.Command("ip", "netns", "exec", m.Host, os.Args[0], "-test.run=^$")
	}
	p.cmd.Env = append(os.Environ(), memberVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		c.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.Fatal(err)
	}
	go func() {
		defer close(p.over)
		for s := bufio.NewScanner(out); s.Scan(); {
			switch s.Text() {
			case "stopped":
				close(p.done)
			case "read":
				close(p.last)
			default:
				c.hear(p.name, s.Text())
			}
		}
	}()
	return p
}

// kill ends a process, and hears what it had said.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.over
	_ = p.cmd.Wait()
}

// TestHistories: calls and reads of processes that are killed, stopped, cut off, added and removed meanwhile, and whose sessions expire, can be
// explained by one order.
func TestHistories(t *testing.T) {
	expired := 0
	for seed := *first; seed < *first+uint64(*runs); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			expired += history(t, seed)
		})
	}
	t.Logf("%d calls were told that their session had expired", expired)
	if expired == 0 && *runs >= 10 {
		t.Error("nobody was told that a session had expired")
	}
}

// history makes one and has it judged, and returns how many calls were told that their session had expired.
func history(t *testing.T, seed uint64) (expired int) {
	c := &court{T: t, open: map[string]porcupine.Operation{}, noted: map[string]int{}}
	f := newFaults(c, seed)
	defer f.close()
	f.begin()
	for until := time.Now().Add(*lasts); time.Now().Before(until); {
		f.one()
	}
	running := slices.Collect(maps.Values(f.running))
	for _, p := range running {
		_, _ = io.WriteString(p.stdin, "stop\n")
	}
	comes := func(p *process, end chan struct{}) {
		t.Helper()
		select {
		case <-end:
		case <-p.over:
			t.Fatalf("%s has ended", p.name)
		case <-time.After(3 * time.Minute):
			t.Fatalf("%s does not come to its end", p.name)
		}
	}
	for _, p := range running {
		comes(p, p.done)
	}
	last := f.running[f.members[0].Name]
	_, _ = io.WriteString(last.stdin, "last\n")
	comes(last, last.last)
	f.close()
	for _, op := range c.open {
		c.never(op)
	}
	began := time.Now()
	result, info := porcupine.CheckOperationsVerbose(model, c.history, judging)
	t.Logf("%d calls and reads, %d of them of unknown fate; %v; %v: %v after %v", len(c.history), c.unknown, f.made, c.noted, result, time.Since(began).Round(time.Millisecond))
	if result == porcupine.Unknown {
		t.Error("it could not be judged")
	}
	if result != porcupine.Ok {
		c.show()
	}
	if result == porcupine.Illegal {
		path := filepath.Join(t.ArtifactDir(), "history.html")
		t.Errorf("there is no order that explains it; see %s: %v", path, porcupine.VisualizePath(model, info, path))
	}
	if len(c.history) == 0 {
		t.Error("nobody was answered")
	}
	if n := c.noted["lost"]; n > 0 && c.noted["flood"] == 0 {
		t.Errorf("%d calls got no answer, though the members keep so small ones of sessions that have not expired", n)
	}
	return c.noted["expired"]
}

// show logs the calls of each register and queue whose history is not plainly right.
func (c *court) show() {
	for _, calls := range model.Partition(c.history) {
		result := porcupine.CheckOperationsTimeout(model, calls, time.Second)
		if result == porcupine.Ok {
			continue
		}
		slices.SortFunc(calls, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		c.Logf("%v:", result)
		for _, o := range calls {
			c.Logf("%d to %d, %v: %v %v", o.Call, o.Return, o.Metadata, o.Input, o.Output)
		}
	}
}

// judging is how long the judge may think about one history. It takes some milliseconds: what is called is called for a second only.
const judging = 60 * time.Second
