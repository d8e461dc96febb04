package cmdtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// A cluster of members in this process, for a script.
type cluster struct {
	dir     string
	tls     string // directory of certificates, "" for none
	members []ha.Member

	mu    sync.Mutex // guards nodes
	nodes map[string]*ha.Node
}

type clusterKey struct{}

func clusterOf(ts *testscript.TestScript) *cluster { return ts.Value(clusterKey{}).(*cluster) }

// config is a member's.
func (c *cluster) config(name, dir string) ha.Config {
	cfg := ha.Config{
		Name: name, Dir: dir, Cluster: "test", Members: c.members, Version: "1.2.3",
		Heartbeat: 50 * time.Millisecond, ElectionTimeout: time.Second, Logger: slog.New(slog.DiscardHandler),
		Handle: func(ctx context.Context, t fence.Token, r ha.Request) ([]byte, error) {
			if string(r.Data) == "fail" {
				return nil, &ha.CallError{Code: 7, Text: "the program says no"}
			}
			_, err := ha.FromContext(ctx).Append(ctx, t, r.Data)
			return []byte("answer to " + string(r.Data)), err
		},
	}
	if c.tls != "" {
		file := func(name string) string { return filepath.Join(c.tls, name) }
		cfg.GetTLS = ha.TLSFiles(file(name+".crt"), file(name+".key"), file("ca.crt"))
	}
	return cfg
}

func (c *cluster) open(cfg ha.Config) error {
	n, err := ha.Open(cfg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[cfg.Name] = n
	return nil
}

func (c *cluster) node(name string) *ha.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[name]
}

// start starts a, b and so on, and waits until one of them is Active.
func (c *cluster) start(test loopback.Test, size int) error {
	c.nodes = map[string]*ha.Node{}
	for i := range size {
		c.members = append(c.members, ha.Member{Name: string(rune('a' + i)), Addr: loopback.Addr(test)})
	}
	for _, m := range c.members {
		if err := c.open(c.config(m.Name, filepath.Join(c.dir, m.Name))); err != nil {
			return err
		}
	}
	_, err := c.active()
	return err
}

// active waits for an Active, and returns its name.
func (c *cluster) active() (string, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		c.mu.Lock()
		for name, n := range c.nodes {
			if n.Status().State == ha.Active {
				c.mu.Unlock()
				return name, nil
			}
		}
		c.mu.Unlock()
	}
	return "", fmt.Errorf("nobody was active within %v", patience)
}

// stopAll closes all members at once.
func (c *cluster) stopAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all sync.WaitGroup
	for _, n := range c.nodes {
		all.Go(func() { n.Close() })
	}
	all.Wait()
	clear(c.nodes)
}

func (c *cluster) addrs() string {
	var addrs []string
	for _, m := range c.members {
		addrs = append(addrs, m.Addr)
	}
	return strings.Join(addrs, ",")
}

// startCluster is the command "cluster [-tls DIR] [SIZE]": it sets what baton finds its cluster by, and ADDR_a and so on.
func startCluster(ts *testscript.TestScript, neg bool, args []string) {
	c, size := clusterOf(ts), 3
	if len(args) > 1 && args[0] == "-tls" {
		c.tls, args = ts.MkAbs(args[1]), args[2:]
	}
	if len(args) > 0 {
		_, err := fmt.Sscan(args[0], &size)
		ts.Check(err)
	}
	ts.Defer(c.stopAll)
	ts.Check(c.start(ts, size))
	ts.Setenv("BATON_ADDR", c.addrs())
	ts.Setenv("BATON_CLUSTER", "test")
	for _, m := range c.members {
		ts.Setenv("ADDR_"+m.Name, m.Addr)
		ts.Setenv("DIR_"+m.Name, filepath.Join(c.dir, m.Name))
	}
	settle(ts, neg, nil)
}

// settle is the command "settle": it waits for an Active, and until the others know it and have everything, and sets ACTIVE, STANDBY, ADDR_ACTIVE, ADDR_STANDBY and EPOCH.
func settle(ts *testscript.TestScript, _ bool, _ []string) {
	c := clusterOf(ts)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("the cluster does not settle")
		}
		active, err := c.active()
		ts.Check(err)
		standby, index, settled := "", uint64(0), true
		c.mu.Lock()
		for _, n := range c.nodes {
			index = max(index, n.Status().Index)
		}
		for name, n := range c.nodes {
			s := n.Status()
			settled = settled && s.Active == active && s.Applied == index && len(s.Obstacles) == 0
			if name != active && s.State == ha.Standby && (standby == "" || name < standby) {
				standby = name
			}
		}
		c.mu.Unlock()
		if settled {
			ts.Setenv("ACTIVE", active)
			ts.Setenv("STANDBY", standby)
			ts.Setenv("EPOCH", fmt.Sprint(c.node(active).Status().Epoch))
			for _, m := range c.members {
				switch m.Name {
				case active:
					ts.Setenv("ADDR_ACTIVE", m.Addr)
				case standby:
					ts.Setenv("ADDR_STANDBY", m.Addr)
				}
			}
			return
		}
	}
}

// startNewcomer is the command "newcomer NAME": a member with a new directory waits to be added, or to take the place of one of its name.
func startNewcomer(ts *testscript.TestScript, _ bool, args []string) {
	c, name := clusterOf(ts), args[0]
	addr := loopback.Addr(ts)
	for _, m := range c.members {
		if m.Name == name {
			addr = m.Addr
		}
	}
	cfg := c.config(name, filepath.Join(c.dir, name+"-new"))
	cfg.Members = append([]ha.Member{{Name: name, Addr: addr}}, without(c.members, name)...)
	cfg.Join = true
	ts.Check(c.open(cfg))
	ts.Setenv("ADDR_"+name, addr)
}

func without(members []ha.Member, name string) (others []ha.Member) {
	for _, m := range members {
		if m.Name != name {
			others = append(others, m)
		}
	}
	return others
}

// restartMember is the command "start NAME [DIR]": it starts a member, or, with a directory, the only one of a new cluster.
func restartMember(ts *testscript.TestScript, neg bool, args []string) {
	c, name := clusterOf(ts), args[0]
	cfg := c.config(name, filepath.Join(c.dir, name))
	if len(args) > 1 {
		if c.nodes == nil {
			c.nodes = map[string]*ha.Node{}
			ts.Defer(c.stopAll)
		}
		addr := loopback.Addr(ts)
		cfg.Dir, cfg.Members = ts.MkAbs(args[1]), []ha.Member{{Name: name, Addr: addr}}
		ts.Setenv("BATON_ADDR", addr)
	}
	ts.Check(c.open(cfg))
}

// stopMember is the command "halt NAME…".
func stopMember(ts *testscript.TestScript, _ bool, args []string) {
	c := clusterOf(ts)
	for _, name := range args {
		n := c.node(name)
		ts.Check(n.Close())
		c.mu.Lock()
		delete(c.nodes, name)
		c.mu.Unlock()
	}
}

// damage is the command "damage FILE-PATTERN": it changes a byte in the middle of what is there.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	paths, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(paths) == 0 {
		ts.Fatalf("no file %s", args[0])
	}
	f, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	info, err := f.Stat()
	ts.Check(err)
	at := min(info.Size()/2, 64)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	ts.Check(err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, at)
	ts.Check(err)
}

// truncate is the command "truncate FILE": it cuts off the second half.
func truncate(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()/2))
}
