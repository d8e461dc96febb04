//go:build linux

package agent

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
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/agent/state"
)

// An agent runs one program on the Active.
type agent struct {
	cfg     Config // with its defaults
	log     *slog.Logger
	next    atomic.Pointer[Config] // what the next role does
	notify  *notifier
	machine *state.Machine // nil: no state is replicated

	mu     sync.Mutex    // guards what follows
	role   chan struct{} // closed when the present role's work is done; nil if there is none
	leaves chan struct{} // closed when this member is about to leave, and its service ends before
}

// Run is a member that runs the program of a configuration while it is the Active, until ctx ends. reload, if not nil, tells that the configuration
// shall be read again by read: what it says about the program counts from the next role on; about the member it must say the same. Everything
// that the agent and the program write goes to our standard output and error. The error is nil if everything has ended in good order.
func Run(ctx context.Context, cfg Config, log *slog.Logger, reload <-chan os.Signal, read func() (Config, error)) error {
	err := cfg.Validate()
	if err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	a := &agent{cfg: cfg, log: log, leaves: make(chan struct{})}
	a.next.Store(&cfg)
	for _, addr := range cfg.Addresses { // which an agent has left that was killed together with its guardian
		if err := addr.remove(); err != nil {
			return err
		}
	}
	node := cfg.node()
	if node.Watchdog, err = systemdWatchdog(); err != nil {
		return err
	}
	a.notify = newNotifier() // takes the socket out of the environment
	defer a.notify.close()
	node.Logger, node.OnActive, node.OnStandby = log, a.active, a.standby
	if cfg.State.is() {
		a.machine = new(state.Machine)
		node.StateMachine, node.Handle = a.machine, refuseCalls
	}
	n, err := ha.Open(node)
	if err != nil {
		return err
	}
	a.notify.say("READY=1")
	failed := make(chan struct{})
	go func() { // until the node is closed
		for s := range n.Watch(context.Background()) {
			if s.State == ha.Failed {
				close(failed)
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			a.notify.say("STOPPING=1")
			a.leave()
			return n.Close()
		case <-reload:
			a.reload(read)
		case <-failed:
			return errors.Join(n.Status().Err, n.Close())
		}
	}
}

// reload takes over what a new configuration says about the program.
func (a *agent) reload(read func() (Config, error)) {
	c, err := read()
	if err == nil {
		err = c.Validate()
	}
	if err == nil {
		c = c.withDefaults()
		if c.member() != a.cfg.member() ||
			c.leave() > a.cfg.leave() {
			err = errors.New("what it says about the member has changed, or the end of a role may take longer: that needs a restart")
		}
	}
	if err != nil {
		a.log.Error("configuration not reloaded", "err", err)
		return
	}
	a.next.Store(&c)
	a.log.Info("configuration reloaded, for the next role")
}

func (a *agent) standby(context.Context) error {
	a.notify.say("STATUS=Standby")
	return nil
}

// leave ends the service while the role still lasts, so that what it writes at its end counts.
func (a *agent) leave() {
	a.mu.Lock()
	close(a.leaves)
	role := a.role
	a.mu.Unlock()
	if role != nil {
		<-role
	}
}

// active does the work of one role, by a guardian.
func (a *agent) active(ctx context.Context, t fence.Token) error {
	done := make(chan struct{})
	defer close(done)
	if !a.begins(done) {
		return nil
	}
	node := ha.FromContext(ctx)
	k, err := a.keep(ctx, node, t)
	defer k.end()
	if err != nil {
		return fmt.Errorf("replicate the state: %w", err)
	}
	g, err := a.start(ctx, node, t, k)
	if err != nil {
		return fmt.Errorf("start the guardian: %w", err)
	}
	over, leaves, alone := ctx.Done(), a.leaves, g.alone
	renew := time.NewTicker(time.Duration(a.heartbeat() / 2))
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			if until := lease(node); until > 0 {
				g.say(fmt.Sprintf("until %d\n", until))
			}
		case <-alone:
			alone = nil
			k.prepare()
		case err = <-k.prepared:
			if err != nil {
				g.say("down\n")
			} else {
				g.say("go\n")
			}
		case <-over: // the guardian has the time that the lease still lasts, which it does while this member drains
			g.say("down\n")
			over = nil
		case <-leaves:
			g.say("down\n")
			leaves = nil
		case <-g.gone:
			for _, addr := range g.cfg.Addresses { // the guardian may have been killed
				if err := addr.remove(); err != nil {
					a.log.Error("address not removed", "err", err)
				}
			}
			k.hear()
			switch {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				return err
			case leaves != nil:
				return g.why()
			case g.err == nil && !g.killed:
				k.commitLast()
			}
			return nil
		}
	}
}

// begins reports whether a role's work begins, which ends when done is closed: not once this member leaves.
func (a *agent) begins(done chan struct{}) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.leaves:
		return false
	default:
		a.role = done
		return true
	}
}

func (a *agent) heartbeat() Duration {
	if a.cfg.Heartbeat == 0 {
		return Duration(50 * time.Millisecond)
	}
	return a.cfg.Heartbeat
}

// lease returns until when nobody else can be Active, on the guardian's clock; 0 if that is over.
func lease(n *ha.Node) int64 {
	now := clock() // first: what passes until the status is there is lost
	s := n.Status()
	if s.Lease <= 0 {
		return 0
	}
	return now + int64(s.Lease)
}

// firstLease is [lease], but waits until the status tells of the role, which OnActive may be ahead of.
func firstLease(ctx context.Context, n *ha.Node) (int64, error) {
	for range n.Watch(ctx) {
		if until := lease(n); until > 0 {
			return until, nil
		}
	}
	return 0, context.Cause(ctx)
}

// A watched guardian is one as the agent sees it.
type watched struct {
	cfg    Config
	cmd    *exec.Cmd
	in     io.WriteCloser
	alone  chan struct{} // closed when nothing of an earlier role runs any more
	gone   chan struct{} // closed when it has ended, and all that was its
	err    error         // what it has told; before gone is closed
	killed bool          // the program did not end by itself; likewise
}

// start starts a guardian.
func (a *agent) start(ctx context.Context, n *ha.Node, t fence.Token, k *keeper) (*watched, error) {
	defer k.given()
	cfg := *a.next.Load()
	until, err := firstLease(ctx, n)
	if err != nil {
		return nil, err
	}
	job, err := json.Marshal(job{Config: cfg, Env: a.env(t), Until: until})
	if err != nil {
		return nil, err
	}
	events, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	g := &watched{cfg: cfg, cmd: exec.Command("/proc/self/exe"), alone: make(chan struct{}), gone: make(chan struct{})}
	g.cmd.Args = []string{guardianName}
	g.cmd.Stdout, g.cmd.Stderr, g.cmd.ExtraFiles = os.Stdout, os.Stderr, append([]*os.File{theirs}, k.programs()...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what is sent to our group is for us
	if g.in, err = g.cmd.StdinPipe(); err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		events.Close()
		return nil, err
	}
	g.say(string(job) + "\n")
	go func() {
		defer close(g.gone)
		defer events.Close()
		for s := bufio.NewScanner(events); s.Scan(); {
			var e event
			switch err := json.Unmarshal(s.Bytes(), &e); {
			case err != nil:
				g.err = fmt.Errorf("the guardian says %q", s.Text())
			case e.Event == "alone":
				close(g.alone)
			case e.Event == "killed":
				g.killed = true
			case e.Event == "up":
				a.log.Info("service is up", "member", cfg.Name, "token", t)
				a.notify.say("STATUS=Active, " + t.String())
			default:
				g.err = errors.New(e.Text)
				a.log.Error("service has failed", "member", cfg.Name, "token", t, "err", e.Text)
			}
		}
		if err := g.cmd.Wait(); err != nil {
			g.err = fmt.Errorf("the guardian has ended: %w", err)
		}
		a.log.Info("service is down", "member", cfg.Name, "token", t)
	}()
	return g, nil
}

// say tells the guardian a line; one that is gone hears nothing.
func (g *watched) say(line string) { _, _ = io.WriteString(g.in, line) }

func (g *watched) why() error {
	if g.err == nil {
		return errors.New("the guardian has ended")
	}
	return g.err
}

// env is the environment of the program and the commands.
func (a *agent) env(t fence.Token) []string {
	var list []string
	for _, m := range a.cfg.Members {
		list = append(list, m.Name+"="+m.Addr)
	}
	env := os.Environ()
	if a.cfg.State.Dir != "" {
		env = append(env, "BATON_COMMIT="+a.cfg.commitPath())
	}
	return append(env,
		"BATON_TOKEN="+t.String(), "BATON_CLUSTER="+t.Cluster, fmt.Sprintf("BATON_EPOCH=%d", t.Epoch), "BATON_NAME="+t.Holder,
		"BATON_MEMBERS="+strings.Join(list, ","), "BATON_ADVERTISE="+a.cfg.Advertise)
}

// Signals returns the contexts of a main: ctx ends with SIGINT or SIGTERM, and SIGHUP is for reload.
func Signals() (ctx context.Context, reload <-chan os.Signal, stop func()) {
	ctx, stop = signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	return ctx, hup, stop
}
