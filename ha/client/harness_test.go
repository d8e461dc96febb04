package client_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// patience bounds every wait of these tests; it is only ever used up by a failure.
const patience = 30 * time.Second

// nextPort walks over the ports below the ephemeral range, so that the port of a member that is stopped for a moment stays free.
var nextPort atomic.Uint32

func freeAddr(t testing.TB) string {
	t.Helper()
	nextPort.CompareAndSwap(0, uint32(os.Getpid())*157)
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+nextPort.Add(1)%22_000)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func quiet() *slog.Logger {
	level := slog.LevelError + 4
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// A cluster of members in this process, over real TCP, with real files.
type cluster struct {
	t       testing.TB
	dir     string
	members []ha.Member
	edit    func(*ha.Config)

	mu    sync.Mutex // guards nodes
	nodes map[string]*ha.Node
}

func newCluster(t testing.TB, size int, edit func(*ha.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), edit: edit, nodes: map[string]*ha.Node{}}
	for i := range size {
		c.members = append(c.members, ha.Member{Name: string(rune('a' + i)), Addr: freeAddr(t)})
	}
	t.Cleanup(c.stopAll)
	for _, m := range c.members {
		c.start(m.Name)
	}
	return c
}

func (c *cluster) start(name string) {
	c.t.Helper()
	cfg := ha.Config{
		Name: name, Dir: filepath.Join(c.dir, name), Cluster: "test", Members: c.members,
		Heartbeat: 25 * time.Millisecond, ElectionTimeout: 750 * time.Millisecond, Logger: quiet(),
	}
	if c.edit != nil {
		c.edit(&cfg)
	}
	n, err := ha.Open(cfg)
	if err != nil {
		c.t.Fatalf("open %s: %v", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[name] = n
}

func (c *cluster) stop(name string) {
	c.t.Helper()
	c.mu.Lock()
	n := c.nodes[name]
	delete(c.nodes, name)
	c.mu.Unlock()
	if err := n.Close(); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
}

// stopAll closes all members at once: whoever closes last has nobody to hand over to, and would look for somebody.
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

func (c *cluster) node(name string) *ha.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[name]
}

// active waits for an Active.
func (c *cluster) active() (*ha.Node, fence.Token) {
	c.t.Helper()
	var found *ha.Node
	var token fence.Token
	eventually(c.t, "a member is active", func() bool {
		for _, m := range c.members {
			if n := c.node(m.Name); n != nil {
				if s := n.Status(); s.State == ha.Active {
					found, token = n, s.Token
					return true
				}
			}
		}
		return false
	})
	return found, token
}

// put appends a record on whoever is Active. Errors that leave it open are retried, too: then it may be there twice.
func (c *cluster) put(record []byte) (index uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		n, token := c.active()
		index, err := n.Append(ctx, token, record)
		if err == nil {
			return index
		}
		if ctx.Err() != nil {
			c.t.Fatalf("append: %v", err)
		}
	}
}

func (c *cluster) addrs() (addrs []string) {
	for _, m := range c.members {
		addrs = append(addrs, m.Addr)
	}
	return addrs
}

func (c *cluster) addr(name string) string {
	for _, m := range c.members {
		if m.Name == name {
			return m.Addr
		}
	}
	return ""
}

// dial returns a client, which the test closes.
func dial(t testing.TB, addrs ...string) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{Cluster: "test", Addrs: addrs, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func number(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func value(record []byte) uint64 { return binary.LittleEndian.Uint64(record) }

// read reads so many records, and checks that they are one after the other and hold the numbers from first on.
func read(ctx context.Context, c *client.Client, from uint64, count int) error {
	next := from
	for e, err := range c.Subscribe(ctx, from) {
		if err != nil {
			return err
		}
		if e.Index != next {
			return fmt.Errorf("record %d comes where %d should", e.Index, next)
		}
		if next++; next == from+uint64(count) {
			return nil
		}
	}
	return errors.New("the records end without an error")
}
