package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Cluster is members on loopback, each a process of this program: three of them, if Run has made it, and those that were added.
type Cluster struct {
	Members []*Member
	Client  *Client // of the three; nil if it was not Run that has made it

	started time.Time
	lingers bool // after the script
	dir     string
	fail    context.CancelCauseFunc
}

// A Member is one process, or was one.
type Member struct {
	Name string
	HTTP string // host:port

	dir string

	mu   sync.Mutex // guards proc
	proc *process   // nil before the first start
	args []string
	fail context.CancelCauseFunc
}

// A process is one run of a member. It ends when its standard input does, so that it does not
// outlive this process, even if that is killed.
type process struct {
	cmd      *exec.Cmd
	stdin    io.Closer
	expected bool          // its end was asked for; guarded by the member's mu
	done     chan struct{} // closed when it has ended; err is set before
	err      error
}

// goodbye is how long members may take to leave in good order.
const goodbye = 20 * time.Second

// Add adds a process, not yet started, that is this program with some arguments. It gets its directory as -dir, and -supervised,
// besides.
func (c *Cluster) Add(name, http string, args ...string) *Member {
	m := &Member{Name: name, HTTP: http, dir: filepath.Join(c.dir, name), fail: c.fail}
	m.args = append(args, "-name", name, "-dir", m.dir, "-supervised")
	c.Members = append(c.Members, m)
	return m
}

// addThree adds the three members of a cluster.
func (c *Cluster) addThree(flags []string) error {
	addrs, err := FreeAddrs(6)
	if err != nil {
		return err
	}
	names := []string{"a", "b", "c"}
	var list, urls []string
	for i, name := range names {
		list = append(list, name+"="+addrs[2*i]+"@"+addrs[2*i+1])
		urls = append(urls, addrs[2*i+1])
	}
	for i, name := range names {
		c.Add(name, urls[i], append([]string{"-members", strings.Join(list, ",")}, flags...)...)
	}
	c.Client = newClient(urls)
	return nil
}

// FreeAddrs finds addresses on loopback that nobody listens on. It keeps below the range from which systems take the
// local ports of outgoing connections, so that a member that is down for a moment finds its port free
// when it comes back.
func FreeAddrs(n int) ([]string, error) {
	var addrs []string
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close() // only on return, so that none is found twice
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, errors.New("no free ports on 127.0.0.1")
}

// StartAll starts every member.
func (c *Cluster) StartAll() error {
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Member finds a member by its name, nil if there is none.
func (c *Cluster) Member(name string) *Member {
	for _, m := range c.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

func (m *Member) logPath() string { return m.dir + ".log" }

// Start starts the member's process, on the directory that it had before.
func (m *Member) Start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(m.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own copy
	p := &process{cmd: exec.Command(self, m.args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	isolate(p.cmd)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	m.mu.Lock()
	m.proc = p
	m.mu.Unlock()
	go m.wait(p)
	return nil
}

// wait waits for a process, and raises the alarm when it ends unasked.
func (m *Member) wait(p *process) {
	p.err = p.cmd.Wait()
	close(p.done)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !p.expected {
		m.fail(fmt.Errorf("member %s ended by itself: %v", m.Name, p.cmd.ProcessState))
	}
}

// ending returns the member's process, whose end is expected from now on; nil if it never ran.
func (m *Member) ending() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != nil {
		m.proc.expected = true
	}
	return m.proc
}

// Pid is the member's process id, 0 if it never ran.
func (m *Member) Pid() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil {
		return 0
	}
	return m.proc.cmd.Process.Pid
}

// Kill kills the process with SIGKILL, paused or not, and waits until it is gone. It returns the
// moment just before the signal.
func (m *Member) Kill() time.Time {
	p := m.ending()
	at := time.Now()
	if p != nil {
		_ = p.cmd.Process.Kill() // an error says that it has ended already
		<-p.done
	}
	return at
}

// Pause stops the process with SIGSTOP: it keeps its memory and its sockets, and does nothing.
func (m *Member) Pause() error { return pause(m.Pid()) }

// Resume wakes a paused process with SIGCONT.
func (m *Member) Resume() error { return resume(m.Pid()) }

// stopAll ends all members in good order, and says if one did not manage.
func (c *Cluster) stopAll() error {
	deadline := time.After(goodbye)
	for _, m := range c.Members {
		if p := m.ending(); p != nil {
			p.stdin.Close()
		}
	}
	for _, m := range c.Members {
		p := m.ending()
		if p == nil {
			continue
		}
		select {
		case <-p.done:
			if p.err != nil {
				return fmt.Errorf("member %s did not leave in good order: %w", m.Name, p.err)
			}
		case <-deadline:
			return fmt.Errorf("member %s did not leave within %v", m.Name, goodbye)
		}
	}
	return nil
}

// killAll makes sure that no process is left.
func (c *Cluster) killAll() {
	for _, m := range c.Members {
		m.Kill()
	}
}
