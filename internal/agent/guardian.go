//go:build linux

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A job is what the agent tells its guardian first, in one line of JSON. After it come lines "until NANOSECONDS": the lease lasts until then, by
// CLOCK_BOOTTIME; "go" after the event "alone"; and at last "down": the role ends in good order. The end of the input is the end of the agent. With
// State.Pipe descriptors 4 and 5 are the program's standard input and output.
type job struct {
	Config Config
	Env    []string
	Until  int64
}

// An event is what the guardian tells the agent: "up" when the service is there, "error" with what has failed; with State.Dir "alone" when nothing
// of an earlier role runs any more and the directory may be prepared, and "killed" where the program was. Its end says that all is gone.
type event struct {
	Event string
	Text  string `json:",omitempty"`
}

var (
	errLease  = errors.New("the lease is over")
	errAgent  = errors.New("the agent has ended")
	errAsked  = errors.New("the role ends")
	errBudget = errors.New("the end of the role took too long")
)

// clock is CLOCK_BOOTTIME, in nanoseconds: it goes on while the machine sleeps.
func clock() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 1<<63 - 1 // every lease is over
	}
	return t.Nano()
}

// A guardian does the work of one role.
type guardian struct {
	cfg    Config
	env    []string
	events *json.Encoder
	pipe   [2]*os.File   // the program's standard input and output, with State.Pipe
	goOn   chan struct{} // closed when the agent has said "go"
	began  bool          // there is something to be undone

	role context.Context // ends when the role ends in good order, or life
	life context.Context // ends when nothing may run any more

	mu    sync.Mutex // guards what follows
	child *exec.Cmd  // the init; nil if it does not run
	ended chan error // its end; has room for it
	held  []Address  // that were added
}

// guard is the guardian's main.
func guard() int {
	unix.CloseOnExec(3)
	g := &guardian{events: json.NewEncoder(os.NewFile(3, "events")), goOn: make(chan struct{}), ended: make(chan error, 1)}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	var j job
	if err == nil {
		err = json.Unmarshal(line, &j)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guardian:", err)
		return 1
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	// Who wants an end tells the agent. They are not ignored, which the program would inherit.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	g.cfg, g.env = j.Config.withDefaults(), j.Env
	if g.cfg.State.Pipe {
		for i := range g.pipe {
			unix.CloseOnExec(4 + i)
			g.pipe[i] = os.NewFile(uintptr(4+i), "pipe")
		}
	}
	life, kill := context.WithCancelCause(context.Background())
	role, end := context.WithCancelCause(life)
	g.life, g.role = life, role
	until := make(chan int64)
	go g.listen(in, until, end, kill)
	emergency := make(chan struct{})
	go func() {
		defer close(emergency)
		watchLease(life, j.Until, until, kill)
		g.shoot() // whatever the work is just at
		g.dropAddresses()
		g.kill()
	}()

	err = g.alone(j.Config.lockPath())
	if err == nil {
		err = g.prepared()
	}
	if err == nil {
		err = g.up()
	}
	if err == nil {
		g.tell("up", nil)
		err = g.watch()
	}
	if !errors.Is(err, errAsked) {
		g.tell("error", err)
	}
	end(errAsked)
	// A role that ends in good order keeps its lease meanwhile, and the agent goes on telling it. Its end must come before the
	// others stop waiting for it.
	budget := time.AfterFunc(g.cfg.leave()+time.Second, func() { kill(errBudget) })
	if g.began {
		g.down()
	}
	budget.Stop()
	kill(errAsked)
	<-emergency
	return 0
}

func (g *guardian) tell(what string, err error) {
	e := event{Event: what}
	if err != nil {
		e.Text = err.Error()
	}
	_ = g.events.Encode(e) // the agent may be gone
}

// listen hears what the agent says.
func (g *guardian) listen(in *bufio.Reader, until chan<- int64, end, kill context.CancelCauseFunc) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			kill(errAgent)
			return
		}
		var at int64
		switch line = strings.TrimSpace(line); line {
		case "down":
			end(errAsked)
			continue
		case "go":
			close(g.goOn)
			continue
		}
		if _, err := fmt.Sscanf(line, "until %d", &at); err == nil {
			until <- at
		}
	}
}

// look is how late the end of a lease may be noticed when the machine has slept, since timers sleep, too.
const look = 20 * time.Millisecond

// watchLease returns when life has ended, and ends it when the lease is over.
func watchLease(life context.Context, at int64, until <-chan int64, kill context.CancelCauseFunc) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		left := time.Duration(at - clock())
		if left <= 0 {
			kill(errLease)
			return
		}
		timer.Reset(min(left, look))
		select {
		case at = <-until:
		case <-timer.C:
		case <-life.Done():
			return
		}
	}
}

// alone waits until no other guardian of this member is at work: one of an agent that was killed may still run its commands.
func (g *guardian) alone(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644) // held until this process ends
	for err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			err = nil
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			continue
		}
		select {
		case <-g.role.Done():
			return context.Cause(g.role)
		case <-time.After(10 * time.Millisecond):
			err = nil
		}
	}
	return fmt.Errorf("lock %s: %w", path, err)
}

// prepared waits until the agent has prepared the directory.
func (g *guardian) prepared() error {
	if g.cfg.State.Dir == "" {
		return nil
	}
	g.tell("alone", nil)
	select {
	case <-g.goOn:
		return nil
	case <-g.role.Done():
		return context.Cause(g.role)
	}
}

// up makes the service be there.
func (g *guardian) up() error {
	g.began = true
	if err := g.command(g.role, "promote", g.cfg.Promote); err != nil {
		return err
	}
	if err := g.run(); err != nil {
		return err
	}
	if err := g.command(g.role, "start", g.cfg.Start); err != nil {
		return err
	}
	if err := g.ready(); err != nil {
		return err
	}
	for _, a := range g.cfg.Addresses {
		if err := g.take(a); err != nil {
			return err
		}
	}
	return g.command(g.role, "announce", g.cfg.Announce)
}

// down takes it away, as far as it was there: all is done that undoes something, whatever fails.
func (g *guardian) down() {
	late := context.WithoutCancel(g.life) // each command has a time of its own; if life has ended, it has nothing left to keep
	g.fail(g.command(late, "withdraw", g.cfg.Withdraw))
	g.dropAddresses()
	g.fail(g.command(late, "stop", g.cfg.Stop))
	g.stop()
	g.fail(g.command(late, "demote", g.cfg.Demote))
}

// fail tells of an error that changes nothing any more.
func (g *guardian) fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "guardian:", err)
	}
}

// command runs one of the commands, if it is there.
func (g *guardian) command(ctx context.Context, name string, args []string) error {
	if len(args) == 0 {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(g.cfg.CommandTimeout))
	defer cancel()
	if err := command(ctx, args, append(g.env, "BATON_EVENT="+name)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// run starts the program below an init, and returns when signals reach it: the init, as process 1, is deaf to what comes before.
func (g *guardian) run() error {
	if len(g.cfg.Run) == 0 {
		return nil
	}
	started, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer started.Close()
	err = g.startInit(theirs)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	_, _ = started.Read(make([]byte, 1)) // it ends, at the latest with the init
	return nil
}

// startInit starts the init, which closes started.
func (g *guardian) startInit(started *os.File) error {
	start := func(flags uintptr) (*exec.Cmd, error) {
		c := exec.Command("/proc/self/exe")
		c.Args = append([]string{initName}, g.cfg.Run...)
		c.Env = g.env
		c.Stdout, c.Stderr, c.ExtraFiles = os.Stdout, os.Stderr, []*os.File{started}
		if g.cfg.State.Pipe {
			c.Stdin, c.Stdout = g.pipe[0], g.pipe[1]
		}
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: flags}
		return c, c.Start()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := context.Cause(g.role); err != nil {
		return err
	}
	c, err := start(syscall.CLONE_NEWPID)
	if errors.Is(err, syscall.EPERM) { // we have no right to it
		c, err = start(0)
	}
	if err != nil {
		return err
	}
	for _, end := range g.pipe { // the program's alone, so that the agent sees its end
		_ = end.Close()
	}
	g.child = c
	go func() {
		err := c.Wait()
		if err == nil {
			err = errors.New("it ended with status 0")
		}
		g.ended <- fmt.Errorf("run: %s: %w", g.cfg.Run[0], err)
	}()
	return nil
}

// ready waits until the check succeeds.
func (g *guardian) ready() error {
	if !g.cfg.Check.is() {
		return context.Cause(g.role)
	}
	deadline := time.Now().Add(time.Duration(g.cfg.StartTimeout))
	for {
		err := g.cfg.Check.ask(g.role)
		if err == nil {
			return context.Cause(g.role)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the check has not succeeded within %v: %w", time.Duration(g.cfg.StartTimeout), err)
		}
		select {
		case err := <-g.ended:
			g.ended <- err
			return err
		case <-g.role.Done():
			return context.Cause(g.role)
		case <-time.After(min(100*time.Millisecond, time.Duration(g.cfg.Check.Interval))):
		}
	}
}

// watch returns when the service has failed, or the role has ended.
func (g *guardian) watch() error {
	var tick <-chan time.Time
	if g.cfg.Check.is() {
		t := time.NewTicker(time.Duration(g.cfg.Check.Interval))
		defer t.Stop()
		tick = t.C
	}
	shout := time.NewTicker(time.Second)
	defer shout.Stop()
	shouts := 5 // the first may be lost
	checked := make(chan error, 1)
	failed, checking := 0, false
	for {
		select {
		case err := <-g.ended:
			g.ended <- err
			return err
		case <-g.role.Done():
			return context.Cause(g.role)
		case <-shout.C:
			if shouts--; shouts < 0 {
				shout.Stop()
				continue
			}
			for _, a := range g.cfg.Addresses {
				g.fail(a.shout())
			}
		case <-tick:
			if !checking {
				checking = true
				go func() { checked <- g.cfg.Check.ask(g.role) }()
			}
		case err := <-checked:
			checking = false
			if failed++; err == nil {
				failed = 0
			}
			if failed == g.cfg.Check.Strikes {
				return fmt.Errorf("the check has failed %d times: %w", failed, err)
			}
		}
	}
}

// stop asks the program to end, and kills what is left.
func (g *guardian) stop() {
	g.mu.Lock()
	child := g.child
	g.mu.Unlock()
	if child == nil {
		return
	}
	_ = child.Process.Signal(g.cfg.signal())
	select {
	case err := <-g.ended:
		g.ended <- err
	case <-g.life.Done():
	case <-time.After(time.Duration(g.cfg.StopTimeout)):
		if g.cfg.State.Dir != "" {
			g.tell("killed", nil)
		}
	}
	g.kill()
}

// shoot kills the program, and waits for nothing.
func (g *guardian) shoot() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.child != nil {
		_ = g.child.Process.Kill()
	}
}

// kill kills the program and all that it has started, and returns when they are dead.
func (g *guardian) kill() {
	g.shoot()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.child == nil {
		return
	}
	<-g.ended
	g.child = nil
	killOrphans() // without a PID namespace they come to us
}

func (g *guardian) take(a Address) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := context.Cause(g.role); err != nil {
		return err
	}
	g.held = append(g.held, a)
	if err := a.add(); err != nil {
		return err
	}
	return a.shout()
}

func (g *guardian) dropAddresses() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.held {
		g.fail(a.remove())
	}
	g.held = nil
}
