package upgrade

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

var oldFlag = flag.String("upgrade.old", "", "testdata/member, built from the source of the version before; without it there is nothing to upgrade from")

const patience = 60 * time.Second

// A member is a process of one version or another.
type member struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

// A status is what a member answers to that.
type status struct {
	state                 string
	epoch, index, applied uint64
	hash                  uint64
}

func (m *member) ask(command string) string {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.in, command); err != nil {
		m.t.Fatalf("%s, %s: %v", m.name, command, err)
	}
	if !m.out.Scan() {
		m.t.Fatalf("%s, %s: it has ended", m.name, command)
	}
	return m.out.Text()
}

func (m *member) status() (s status) {
	line := m.ask("status")
	if _, err := fmt.Sscan(line, &s.state, &s.epoch, &s.index, &s.applied, &s.hash); err != nil {
		m.t.Fatalf("%s: %q", m.name, line)
	}
	return s
}

// A cluster is three members, each of the one version or the other.
type cluster struct {
	t       *testing.T
	bare    bool
	dir     string
	list    []ha.Member
	running map[string]*member
	binary  map[string]string
}

func newCluster(t *testing.T, bare bool, binary string) *cluster {
	c := &cluster{t: t, bare: bare, dir: t.TempDir(), running: map[string]*member{}, binary: map[string]string{}}
	for _, name := range []string{"a", "b", "c"} {
		c.list = append(c.list, ha.Member{Name: name, Addr: nextAddr()})
		c.binary[name] = binary
	}
	t.Cleanup(func() {
		for _, m := range c.running {
			m.in.Close()
			_ = m.cmd.Wait()
		}
	})
	return c
}

var addrs atomic.Uint32

// nextAddr returns an address on this host that nobody else uses: of the loopback network, which Linux has whole.
func nextAddr() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:7000", pid>>8%250+1, pid%250+1, addrs.Add(1))
}

func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		type plain struct{ Name, Addr string } // as every version has it
		var list []plain
		for _, m := range c.list {
			list = append(list, plain{m.Name, m.Addr})
		}
		text, err := json.Marshal(map[string]any{
			"Name": name, "Dir": filepath.Join(c.dir, name), "Cluster": "jobs", "Members": list, "CheckpointBytes": 64 << 10, "RetainBytes": 64 << 10, "Bare": c.bare,
		})
		if err != nil {
			c.t.Fatal(err)
		}
		m := &member{t: c.t, name: name, cmd: exec.Command(c.binary[name], string(text))}
		m.cmd.Stderr = &quiet{t: c.t, name: name}
		out, err := m.cmd.StdoutPipe()
		if err == nil {
			m.in, err = m.cmd.StdinPipe()
		}
		if err == nil {
			err = m.cmd.Start()
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if m.out = bufio.NewScanner(out); !m.out.Scan() || m.out.Text() != "ok" {
			c.t.Fatalf("%s does not start: %s", name, m.out.Text())
		}
		c.running[name] = m
	}
}

// quiet shows what a member logs when the test fails.
type quiet struct {
	t      *testing.T
	name   string
	lines  []byte
	hooked bool
}

func (q *quiet) Write(b []byte) (int, error) {
	if !q.hooked {
		q.hooked = true
		q.t.Cleanup(func() {
			if q.t.Failed() {
				q.t.Logf("%s:\n%s", q.name, q.lines)
			}
		})
	}
	q.lines = append(q.lines, b...)
	return len(b), nil
}

func (c *cluster) stop(name string) {
	c.t.Helper()
	m := c.running[name]
	delete(c.running, name)
	if got := m.ask("close"); got != "ok" {
		c.t.Fatalf("close %s: %s", name, got)
	}
	m.in.Close()
	if err := m.cmd.Wait(); err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
}

func (c *cluster) await(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			for name, m := range c.running {
				c.t.Logf("%s: %+v", name, m.status())
			}
			c.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// active makes a member the Active.
func (c *cluster) active(name string) {
	c.t.Helper()
	c.await(name+" is active", func() bool {
		if c.running[name].status().state == "Active" {
			return true
		}
		_ = c.running[name].ask("become")
		return false
	})
}

// anyone returns whoever is active.
func (c *cluster) anyone() (name string) {
	c.t.Helper()
	c.await("somebody is active", func() bool {
		for n, m := range c.running {
			if m.status().state == "Active" {
				name = n
				return true
			}
		}
		return false
	})
	return name
}

// append appends on whoever is active, and returns the last index. What was acknowledged must be found later.
func (c *cluster) append(records, bytes int) (last uint64) {
	c.t.Helper()
	c.await("appends", func() bool {
		answer := c.running[c.anyone()].ask(fmt.Sprintf("append %d %d", records, bytes))
		_, err := fmt.Sscanf(answer, "ok %d", &last)
		return err == nil
	})
	return last
}

// same waits until all running members have applied everything up to an index, and compares what they hold.
func (c *cluster) same(last uint64) {
	c.t.Helper()
	hashes := map[uint64][]string{}
	for _, name := range slices.Sorted(maps.Keys(c.running)) {
		var s status
		c.await(fmt.Sprintf("%s has applied record %d", name, last), func() bool {
			s = c.running[name].status()
			return s.applied >= last
		})
		if s.applied != last {
			c.t.Fatalf("%s has applied %d records, want %d", name, s.applied, last)
		}
		hashes[s.hash] = append(hashes[s.hash], name)
	}
	if len(hashes) != 1 {
		c.t.Fatalf("their states differ after record %d: %v", last, hashes)
	}
	read := map[string][]string{}
	for name, m := range c.running {
		answer := m.ask(fmt.Sprintf("records %d %d", max(last, 100)-20, last))
		if !strings.HasPrefix(answer, "ok") {
			c.t.Errorf("records of %s: %s", name, answer)
		}
		read[answer] = append(read[answer], name)
	}
	if len(read) != 1 {
		c.t.Fatalf("their records differ: %v", read)
	}
}

// A cluster of the version before is upgraded to this one, a member at a time, while the others run. Each of the two versions leads
// the other in between, and each gets a snapshot from the other.
func TestT18_Upgrade(t *testing.T) {
	if *oldFlag == "" {
		t.Skip("needs -upgrade.old")
	}
	old, err := filepath.Abs(*oldFlag)
	if err != nil {
		t.Fatal(err)
	}
	now := filepath.Join(t.TempDir(), "member")
	if out, err := exec.Command("go", "build", "-o", now, "./testdata/member").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare=%v", bare), func(t *testing.T) {
			c := newCluster(t, bare, old)
			c.start("a", "b", "c")
			c.same(c.append(100, 100))
			for i, name := range []string{"a", "b", "c"} {
				c.stop(name)
				c.same(c.append(900, 1000)) // which replaces the log, so that a snapshot is needed
				c.binary[name] = now
				c.start(name)
				c.same(c.append(20, 100))
				for _, leader := range []string{"a", "b", "c"} {
					c.active(leader)
					c.same(c.append(20, 100))
				}
				if i == 2 {
					break
				}
				// This version leads, and one that was not upgraded yet comes back and needs a snapshot.
				c.active(name)
				c.stop("c")
				c.append(900, 1000)
				c.start("c")
				c.same(c.append(20, 100))
			}
		})
	}
}
