package check

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A cluster is three processes of the service on loopback.
type cluster struct {
	t       *testing.T
	dir     string
	env     map[string][]string
	base    map[string]string // URLs
	addr    map[string]string // of members
	running map[string]*process
}

var memberNames = []string{"a", "b", "c"}

func newCluster(t *testing.T, env ...string) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), env: map[string][]string{}, base: map[string]string{}, addr: map[string]string{}, running: map[string]*process{}}
	port, members := ports(t, 2*len(memberNames)), ""
	for i, name := range memberNames {
		c.addr[name] = fmt.Sprintf("127.0.0.1:%d", port[2*i])
		members += "," + name + "=" + c.addr[name]
	}
	for i, name := range memberNames {
		http := fmt.Sprintf("127.0.0.1:%d", port[2*i+1])
		c.base[name] = "http://" + http
		c.env[name] = append(slices.Clone(env), "BATON_NAME="+name, "BATON_MEMBERS="+members[1:], "BATON_HTTP="+http, "BATON_DIR="+filepath.Join(c.dir, name))
		c.start(name)
	}
	return c
}

func (c *cluster) start(name string) {
	c.t.Helper()
	c.running[name] = start(c.t, c.env[name], nil)
}

// shows reports whether a member's metrics have such a line.
func (c *cluster) shows(name, line string) bool {
	status, text := ask(http.MethodGet, c.base[name]+"/metrics", "")
	return status == http.StatusOK && strings.Contains(text, "\n"+line+"\n")
}

// active returns who has the role, at last, of all but one.
func (c *cluster) active(but string) (name string) {
	c.t.Helper()
	eventually(c.t, "one is Active", func() bool {
		for n := range c.base {
			if n != but && c.shows(n, `baton_state{state="Active"} 1`) {
				name = n
				return true
			}
		}
		return false
	})
	return name
}

// follows waits until a member follows an Active, or is it.
func (c *cluster) follows(name string) {
	c.t.Helper()
	eventually(c.t, name+" follows", func() bool {
		return c.shows(name, "baton_has_active 1") && (c.shows(name, `baton_state{state="Standby"} 1`) || c.shows(name, `baton_state{state="Active"} 1`))
	})
}
