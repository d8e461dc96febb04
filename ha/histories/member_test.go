package histories

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/sessionflood"
	"github.com/baton-ha/baton/internal/wire"
)

const memberVariable = "BATON_HISTORY_MEMBER"

// A member is what a process is told to be: this very binary, run again.
type member struct {
	Name, Dir string
	Members   []ha.Member
	Seed      uint64
	Workers   int
	Handler   bool   // calls go through a handler
	Host      string // the network namespace to run in; "": the parent's
	Join      bool   // it waits to be added
}

func TestMain(m *testing.M) {
	if text := os.Getenv(memberVariable); text != "" {
		var c member
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		c.run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// clock is the same in all processes.
func clock() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// run is the process's main. It ends with its standard input. On the line "stop" it says "stopped" once its calls have ended, and on the line "last", "read" once it has read all; the other
// lines are changes of the list of members, and "flood". What has become of those it says as "N what". For each call it prints "B worker time command", and then "E worker time answer", "L worker time" if it has taken effect and the answer
// is lost, "U worker" if nobody knows, "F worker" if it has not taken effect.
func (c member) run() {
	m := newMachine()
	cfg := ha.Config{
		Name: c.Name, Dir: c.Dir, Cluster: "histories", Members: c.Members, StateMachine: m, Join: c.Join,
		Heartbeat: 20 * time.Millisecond, ElectionTimeout: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		CheckpointBytes: 16 << 10, RetainBytes: 32 << 10, // so that who was away needs snapshots, and restarts begin with one
	}
	if c.Handler {
		cfg.Handle = func(ctx context.Context, t fence.Token, r ha.Request) ([]byte, error) {
			res, err := ha.FromContext(ctx).AppendBatch(ctx, t, r.Data)
			if err != nil {
				return nil, err
			}
			return res.Answers[0], nil
		}
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one write each
	}
	cfg.OnActive = func(context.Context, fence.Token) error { say("N active"); return nil }
	n, err := ha.Open(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	stopping, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	for w := range c.Workers {
		working.Go(func() {
			r := rand.New(rand.NewPCG(c.Seed, uint64(w)))
			for i := 0; stopping.Err() == nil; i++ {
				time.Sleep(time.Duration(r.ExpFloat64() * float64(10*time.Millisecond)))
				c.call(n, m, r, fmt.Sprintf("%d.%d", w, i), say)
			}
		})
	}
	go c.countSnapshots(n, say)
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if lines.Text() == "stop" {
				stop()
				working.Wait()
				say("stopped")
				continue
			}
			if lines.Text() == "last" {
				c.last(n, m, say)
				say("read")
				continue
			}
			go c.obey(n, strings.Fields(lines.Text()), say)
		}
		os.Exit(0)
	}()
	select {}
}

// obey does what one line says.
func (c member) obey(n *ha.Node, line []string, say func(string, ...any)) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	switch line[0] {
	case "demote":
		err = n.Demote(ctx, line[1])
	case "promote":
		err = n.Promote(ctx, line[1])
	case "add":
		err = n.AddMember(ctx, ha.Member{Name: line[1], Addr: line[2]})
	case "remove":
		err = n.RemoveMember(ctx, line[1])
	case "flood":
		err = c.flood(ctx, n.Status().ActiveAddr)
	}
	if err == nil {
		say("N %s", line[0])
	}
}

// flood has more sessions opened and used than members keep, so that those of who is not heard of meanwhile expire.
func (c member) flood(ctx context.Context, addr string) error {
	cl, err := session.NewClient(session.ClientConfig{Cluster: "histories", Name: "flood", Role: session.RoleClient, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	mux, err := cl.Dial(ctx, addr, "")
	if err != nil {
		return err
	}
	defer mux.Close()
	st, err := mux.Open(ctx, wire.KindCall)
	if err != nil {
		return err
	}
	_, codes, err := sessionflood.Run(st, 16_500, []byte("get flood"))
	if err == nil && codes[wire.CallDone] < 16_400 {
		err = fmt.Errorf("the calls were answered with %v", codes)
	}
	return err
}

// countSnapshots says each snapshot that the member has received.
func (c member) countSnapshots(n *ha.Node, say func(string, ...any)) {
	for seen := uint64(0); ; time.Sleep(50 * time.Millisecond) {
		for is := n.Stats().Log.SnapshotsReceived; seen < is; seen++ {
			say("N snapshot")
		}
	}
}

// window is for how long a register or a queue is called. What is called for long gathers calls of unknown fate, and each more doubles what the
// judge has to look at.
const window = time.Second

// call makes one call of a register or queue of this moment, and says what came of it.
func (c member) call(n *ha.Node, m *machine, r *rand.Rand, id string, say func(string, ...any)) {
	now := clock() / int64(window)
	key, queue := fmt.Sprintf("r%d.%d", r.IntN(3), now), fmt.Sprintf("q%d.%d", r.IntN(2), now)
	amount := r.Int64N(1 << 40)
	command := [...]string{
		fmt.Sprintf("add %s %d", key, amount), fmt.Sprintf("add %s %d", key, amount), fmt.Sprintf("set %s %d", key, amount),
		"get " + key, "read " + key, "read " + key, fmt.Sprintf("enq %s %d", queue, amount), "deq " + queue,
	}[r.IntN(8)]
	c.do(n, m, id, command, say)
}

// last reads all registers, and takes what is left out of all queues: what took effect twice long after its window shows there.
func (c member) last(n *ha.Node, m *machine, say func(string, ...any)) {
	for n.ReadBarrier(context.Background()) != nil {
		time.Sleep(10 * time.Millisecond)
	}
	registers, queues := m.keys()
	for _, key := range registers {
		c.do(n, m, "last."+key, "get "+key, say)
	}
	for _, key := range queues {
		for i := 0; ; i++ {
			if answer, err := c.do(n, m, fmt.Sprintf("last.%s.%d", key, i), "deq "+key, say); err == nil && answer == "empty" {
				break
			}
		}
	}
}

// do makes one call, and says what came of it.
func (c member) do(n *ha.Node, m *machine, id, command string, say func(string, ...any)) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // longer than it takes to make its session expire
	defer cancel()
	say("B %s %d %s", id, clock(), command)
	var answer []byte
	var err error
	if command[:4] == "read" {
		if err = n.ReadBarrier(ctx); err == nil {
			answer = []byte(m.get(command[len("read "):]))
		} else {
			say("F %s", id)
			return "", err
		}
	} else {
		answer, err = n.Call(ctx, []byte(command))
	}
	switch {
	case err == nil:
		say("E %s %d %s", id, clock(), answer)
	case errors.Is(err, ha.ErrAnswerLost):
		say("L %s %d", id, clock())
	case errors.Is(err, ha.ErrUnknown):
		if errors.Is(err, ha.ErrSessionExpired) {
			say("N expired")
		}
		say("U %s", id)
	default:
		say("F %s", id)
	}
	return string(answer), err
}
