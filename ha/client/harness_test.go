package client_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/loopback"
)

// patience bounds every wait of these tests; it is only ever used up by a failure.
const patience = 60 * time.Second

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
		c.members = append(c.members, ha.Member{Name: string(rune('a' + i)), Addr: loopback.Addr(t)})
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
	if err := c.take(name).Close(); err != nil {
		c.t.Errorf("close %s: %v", name, err)
	}
}

// take takes a member out of the cluster's, for whoever calls to close.
func (c *cluster) take(name string) *ha.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[name]
	delete(c.nodes, name)
	return n
}

// stopAll closes all members, the Active last: it would hand over to one that closes, too, and wait for that.
func (c *cluster) stopAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, active := range []bool{false, true} {
		var some sync.WaitGroup
		for name, n := range c.nodes {
			if active || n.Status().State != ha.Active {
				delete(c.nodes, name)
				some.Go(func() { n.Close() })
			}
		}
		some.Wait()
	}
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

// put appends records together on whoever is Active, and returns the index of the last. Errors that leave it open are retried, too: then they may be there
// twice.
func (c *cluster) put(records ...[]byte) (last uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		n, token := c.active()
		r, err := n.AppendBatch(ctx, token, records...)
		if err == nil {
			return r.Index + uint64(len(records)) - 1
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
	return readAll(c.Subscribe(ctx, from), from, count)
}

func readAll(records iter.Seq2[client.Entry, error], from uint64, count int) error {
	next := from
	for e, err := range records {
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
