//go:build linux

package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A ward is a guardian that a test is the agent of.
type ward struct {
	*testing.T
	dir    string
	cmd    *exec.Cmd
	in     io.WriteCloser
	events chan event // closed at its end
}

// guarded starts a guardian whose lease lasts for an hour. As somebody else than root it makes no PID namespace.
func guarded(t *testing.T, cfg Config, uid uint32) *ward {
	t.Helper()
	return guardedIn(t, t.TempDir(), cfg, uid)
}

func guardedIn(t *testing.T, dir string, cfg Config, uid uint32) *ward {
	t.Helper()
	g := &ward{T: t, dir: dir, events: make(chan event)}
	// A path below it, that all may write and search.
	for dir := g.dir; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Dir = g.dir + "/member"
	fill := func(args []string) {
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "DIR", g.dir)
		}
	}
	for _, args := range [][]string{cfg.Run, cfg.Start, cfg.Stop, cfg.Promote, cfg.Demote, cfg.Announce, cfg.Withdraw, cfg.Check.Command} {
		fill(args)
	}
	g.cmd = exec.Command("/proc/self/exe")
	g.cmd.Args = []string{guardianName}
	g.cmd.Stdout, g.cmd.Stderr = os.Stdout, os.Stderr
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if uid != 0 {
		g.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g.cmd.ExtraFiles = []*os.File{theirs}
	if g.in, err = g.cmd.StdinPipe(); err == nil {
		err = g.cmd.Start()
	}
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(job{Config: cfg, Env: append(os.Environ(), "BATON_TOKEN=jobs/7/a"), Until: clock() + int64(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	g.say(string(text))
	go func() {
		defer close(g.events)
		defer out.Close()
		for s := bufio.NewScanner(out); s.Scan(); {
			var e event
			if err := json.Unmarshal(s.Bytes(), &e); err != nil {
				t.Error(err)
			}
			g.events <- e
		}
	}()
	t.Cleanup(func() {
		g.in.Close()
		for range g.events {
		}
		_ = g.cmd.Wait()
	})
	return g
}

func (g *ward) say(line string) { fmt.Fprintln(g.in, line) }

// hears waits for an event that has a text in it; "" is the guardian's end.
func (g *ward) hears(what, text string) {
	g.Helper()
	select {
	case e := <-g.events:
		if e.Event != what || !strings.Contains(e.Text, text) {
			g.Fatalf("the guardian says %v, not %s with %q", e, what, text)
		}
	case <-time.After(patience):
		g.Fatalf("the guardian says nothing, not %s with %q", what, text)
	}
}

// words are what the commands have written.
func (g *ward) words() string {
	b, _ := os.ReadFile(g.dir + "/words")
	return strings.Join(strings.Fields(string(b)), " ")
}

// dead makes sure that the program and its grandchild hold their locks no more, which the end of the guardian promises.
func (g *ward) dead() {
	g.Helper()
	for _, name := range []string{"service", "grandchild"} {
		f, err := os.Open(g.dir + "/" + name)
		if err != nil {
			g.Fatal(err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			g.Errorf("%s runs: %v", name, err)
		}
		f.Close()
	}
}

// word is a command that notes which one it is.
func word() []string {
	return []string{"sh", "-c", "echo $BATON_EVENT >>DIR/words; echo $BATON_TOKEN >DIR/token"}
}

// service is a configuration of the worst program, with all commands, that is up when the locks are held.
func service() Config {
	return Config{
		Run: []string{"/proc/self/exe", "t8-service", "DIR", "127.0.0.1:0"}, Promote: word(), Start: word(), Announce: word(), Withdraw: word(), Stop: word(), Demote: word(),
		Check: Check{Command: []string{"sh", "-c", "test -e DIR/service -a -e DIR/grandchild && test ! -e DIR/ill"}, Interval: Duration(20 * time.Millisecond), Strikes: 2}, StopTimeout: Duration(50 * time.Millisecond),
	}
}

const (
	upWords = "promote start announce"
	words   = upWords + " withdraw stop demote"
)

func TestGuardian(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(g *ward)
		says string // "": it ends without an error
	}{
		"asked":          {func(g *ward) { g.say("down") }, ""},
		"agent ends":     {func(g *ward) { g.in.Close() }, errAgent.Error()},
		"lease ends":     {func(g *ward) { g.say(fmt.Sprint("until ", clock()+1e8)) }, errLease.Error()},
		"lease cut":      {func(g *ward) { g.say(fmt.Sprint("until ", clock())) }, errLease.Error()},
		"program killed": {func(g *ward) { killService(g) }, "run: /proc/self/exe"},
		"check fails":    {func(g *ward) { os.WriteFile(g.dir+"/ill", nil, 0o644) }, "the check has failed 2 times"},
	} {
		for _, uid := range []uint32{0, 65534} {
			if uid != 0 && os.Geteuid() != 0 {
				continue // nobody is nobody else
			}
			t.Run(fmt.Sprint(name, "/", uid), func(t *testing.T) {
				t.Parallel()
				g := guarded(t, service(), uid)
				g.hears("up", "")
				if got := g.words(); got != upWords {
					t.Errorf("when it is up: %s", got)
				}
				end.do(g)
				if end.says != "" {
					g.hears("error", end.says)
				}
				g.hears("", "")
				g.dead()
				if got := g.words(); got != words {
					t.Errorf("at the end: %s", got)
				}
				if b, err := os.ReadFile(g.dir + "/token"); string(b) != "jobs/7/a\n" {
					t.Errorf("the token is %q, %v", b, err)
				}
			})
		}
	}
}

// A guardian that is still at its commands holds up the next one, and what it undoes is undone before that one begins.
func TestGuardiansFollow(t *testing.T) {
	t.Parallel()
	cfg := service()
	cfg.Demote = []string{"sh", "-c", "echo demote >>DIR/words; while test ! -e DIR/go; do sleep 0.01; done; echo demoted >>DIR/words"}
	first := guarded(t, cfg, 0)
	first.hears("up", "")
	first.in.Close()
	first.hears("error", errAgent.Error())
	cfg = service()
	second := guardedIn(t, first.dir, cfg, 0)
	select {
	case e := <-second.events:
		t.Fatalf("the second says %v while the first is at work", e)
	case <-time.After(100 * time.Millisecond):
	}
	if err := os.WriteFile(first.dir+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	first.hears("", "")
	second.hears("up", "")
	if got := second.words(); got != upWords+" withdraw stop demote demoted "+upWords {
		t.Errorf("the commands were %s", got)
	}
	third := guardedIn(t, first.dir, service(), 0)
	third.say("down")
	third.hears("", "")
	if got := second.words(); got != upWords+" withdraw stop demote demoted "+upWords {
		t.Errorf("one that has begun nothing has undone something: %s", got)
	}
	second.say("down")
	second.hears("", "")
}

// With a directory to be prepared nothing begins before the agent has said that it is; and that the program was killed is told.
func TestGuardianPrepared(t *testing.T) {
	t.Parallel()
	cfg := service()
	cfg.State.Dir = "/srv/nobody/looks"
	g := guarded(t, cfg, 0)
	g.hears("alone", "")
	select {
	case e := <-g.events:
		t.Fatalf("the guardian says %v before it may go on", e)
	case <-time.After(100 * time.Millisecond):
	}
	if got := g.words(); got != "" {
		t.Errorf("before it may go on: %s", got)
	}
	g.say("go")
	g.hears("up", "")
	g.say("down")
	g.hears("killed", "")
	g.hears("", "")
	if got := g.words(); got != words {
		t.Errorf("at the end: %s", got)
	}

	g = guarded(t, cfg, 0)
	g.hears("alone", "")
	g.say("down") // it could not be prepared
	g.hears("", "")
	if got := g.words(); got != "" {
		t.Errorf("it was not prepared, and there is %s", got)
	}
}

// killService kills the program, which is the only one with the directory and its name in its command line.
func killService(g *ward) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		b, _ := os.ReadFile(p + "/cmdline")
		if strings.HasPrefix(string(b), "/proc/self/exe\x00t8-service\x00"+g.dir+"\x00") {
			var pid int
			fmt.Sscan(filepath.Base(p), &pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// What fails on the way up is undone, as far as it was done.
func TestGuardianFails(t *testing.T) {
	failing := func() []string { return []string{"sh", "-c", "exit 3"} }
	for name, c := range map[string]struct {
		edit  func(c *Config)
		says  string
		words string
	}{
		"promote": {func(c *Config) { c.Promote = failing() }, "promote: sh: exit status 3", "withdraw stop demote"},
		"run":     {func(c *Config) { c.Run = []string{"/nowhere"} }, "run: /nowhere", "promote start withdraw stop demote"},
		"start":   {func(c *Config) { c.Start = failing() }, "start: sh: exit status 3", "promote withdraw stop demote"},
		"hanging start": {func(c *Config) { c.Start, c.CommandTimeout = []string{"sleep", "1000"}, Duration(5*time.Second) }, "start: sleep: context deadline exceeded",
			"promote withdraw stop demote"},
		"check":    {func(c *Config) { c.Check.Command, c.StartTimeout = failing(), Duration(50*time.Millisecond) }, "has not succeeded within 50ms", "promote start withdraw stop demote"},
		"address":  {func(c *Config) { c.Addresses = []Address{{Device: "none"}} }, "no such network interface", "promote start withdraw stop demote"},
		"announce": {func(c *Config) { c.Announce = failing() }, "announce: sh: exit status 3", "promote start withdraw stop demote"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := service()
			c.edit(&cfg)
			g := guarded(t, cfg, 0)
			g.hears("error", c.says)
			g.hears("", "")
			if got := g.words(); got != c.words {
				t.Errorf("the commands were %s", got)
			}
		})
	}
}

// A program that heeds the signal has the time to end by itself.
func TestGuardianSignal(t *testing.T) {
	t.Parallel()
	cfg := Config{Run: []string{"sh", "-c", "trap 'echo bye >>DIR/words; exit' USR1; echo up >>DIR/words; while :; do sleep 0.01; done"}, StopSignal: "usr1", StopTimeout: Duration(patience),
		Check: Check{Command: []string{"sh", "-c", "test -e DIR/words"}}}
	g := guarded(t, cfg, 0)
	g.hears("up", "")
	g.say("down")
	g.hears("", "")
	if got := g.words(); got != "up bye" {
		t.Errorf("the program says %s", got)
	}
}
