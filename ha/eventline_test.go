package ha_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// pages are the log of each member of a cluster, line by line.
type pages struct {
	mu sync.Mutex
	of map[string]*bytes.Buffer
}

// A page is where one member writes.
type page struct {
	*pages
	name string
}

func (p page) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[p.name] == nil {
		p.of[p.name] = new(bytes.Buffer)
	}
	return p.of[p.name].Write(line)
}

// with returns the lines of a member that match.
func (p *pages) with(name, pattern string) (lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[name] == nil {
		return nil
	}
	for line := range strings.Lines(p.of[name].String()) {
		if regexp.MustCompile(pattern).MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestLog_OneLineForEachThing reads the log as an operator does: a first start that waits, roles that begin and end, a majority that is lost
// and comes back.
func TestLog_OneLineForEachThing(t *testing.T) {
	t.Parallel()
	said := &pages{of: map[string]*bytes.Buffer{}}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		cfg.Logger = slog.New(slog.NewTextHandler(page{said, cfg.Name}, nil))
	})
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range c.members {
				t.Logf("%s:\n%s", m.Name, strings.Join(said.with(m.Name, ""), ""))
			}
		}
	})
	wait := func(name, pattern string) {
		t.Helper()
		eventually(t, name+" says "+pattern, func() bool { return len(said.with(name, pattern)) > 0 })
	}
	c.start("a")
	wait("a", `msg=obstacle .*kind=unborn .*waiting for b .*, c `)
	c.start("b", "c")
	n, token := c.active()
	active := n.Status().Name
	wait(active, `msg=active .*epoch=`)
	c.put(number(1))
	c.handOver(token)
	wait(active, fmt.Sprintf(`msg="the role ends" .*epoch=%d .*cause=.* why=`, token.Epoch))
	n, _ = c.activeOtherThan(token)
	c.put(number(2))
	any := func(pattern string) {
		t.Helper()
		eventually(t, "a member says "+pattern, func() bool {
			return len(said.with("a", pattern))+len(said.with("b", pattern))+len(said.with("c", pattern)) > 0
		})
	}
	any(`msg="another member has the role" .*epoch=.*peer=`)
	any(`msg="the first append is acknowledged" .*why="nobody acknowledged one for .*, since `)
	active = n.Status().Name
	// Whatever happens under load: each role of a member begins with one line and ends with one, and nobody's ends that had none.
	for _, m := range c.members {
		for _, end := range said.with(m.Name, `msg="the role ends"`) {
			epoch := regexp.MustCompile(`epoch=\d+ `).FindString(end)
			if began, ended := said.with(m.Name, `msg=active .*`+epoch), said.with(m.Name, `msg="the role ends" .*`+epoch); len(began) != 1 || len(ended) != 1 {
				t.Errorf("%s: a role begins with %d lines and ends with %d: %q, %q", m.Name, len(began), len(ended), began, ended)
			}
		}
	}
	others := c.others(active)
	for _, name := range others {
		c.stop(name)
	}
	wait(active, `msg=problem .*kind=leader err="nobody leads: 2 of 3 voters must be there, and `+others[0]+`, `+others[1]+` cannot be heard"`)
	c.start(others...)
	wait(active, `msg="problem over" .*kind=leader`)
	c.put(number(3))
	c.closeAll()
	for _, m := range c.members {
		wait(m.Name, `msg=closed`)
	}
}
