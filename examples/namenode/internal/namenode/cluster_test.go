package namenode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/datanode"
	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// A cluster is NameNodes and DataNodes in this process, on loopback.
type cluster struct {
	servers []*Server
	nodes   []*ha.Node
	fs      *dfs.Client
	kill    map[string]func() // a DataNode
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func start(t *testing.T) *cluster {
	c := &cluster{kill: map[string]func(){}}
	quiet := slog.New(slog.DiscardHandler)
	var members []ha.Member
	var listeners []net.Listener
	var addrs []string
	for _, name := range []string{"a", "b", "c"} {
		l := listen(t)
		listeners, addrs = append(listeners, l), append(addrs, l.Addr().String())
		members = append(members, ha.Member{Name: name, Addr: l.Addr().String()})
	}
	for i, m := range members {
		cfg := ha.Config{
			Name: m.Name, Dir: t.TempDir(), Cluster: "dfs", Members: members, Listener: listeners[i], Advertise: "http://" + m.Addr,
			Heartbeat: 100 * time.Millisecond, Logger: quiet,
		}
		s := new(Server)
		s.Configure(&cfg)
		node, err := ha.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		server := &http.Server{Handler: s.Handler(node)}
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(node.Others()) })
		t.Cleanup(func() { server.Close(); serving.Wait() })
		c.servers, c.nodes = append(c.servers, s), append(c.nodes, node)
	}
	dial := func() *client.Client {
		names, err := client.Dial(t.Context(), client.Config{Cluster: "dfs", Addrs: addrs, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { names.Close() })
		return names
	}
	for i := range 4 {
		name, l := fmt.Sprintf("d%d", i), listen(t)
		cfg := datanode.Config{
			Name: name, Dir: t.TempDir(), Cluster: "dfs", Listen: l, Addr: l.Addr().String(), Names: dial(), Every: 200 * time.Millisecond,
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := datanode.Run(ctx, cfg); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		c.kill[name] = func() { cancel(); running.Wait() }
		t.Cleanup(c.kill[name])
	}
	c.fs = dfs.NewClient(dial())
	c.fs.BlockSize, c.fs.PacketSize = 4096, 1000
	return c
}

// eventually waits for something that happens at last.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// active waits for an Active and returns it.
func (c *cluster) active(t *testing.T) (node *ha.Node) {
	t.Helper()
	eventually(t, "there is an Active", func() bool {
		for _, node = range c.nodes {
			if node.Status().State == ha.Active {
				return true
			}
		}
		return false
	})
	return node
}

// TestCluster writes a file while the Active hands over and a DataNode of the pipeline dies, and finds it whole on DataNodes that are left; and
// takes a file from a writer that dies.
func TestCluster(t *testing.T) {
	c := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	eventually(t, "every NameNode knows all DataNodes", func() bool {
		for i, n := range c.nodes {
			if st := c.servers[i].status(n); len(st.DataNodes) != 4 {
				return false
			}
		}
		return true
	})

	text := bytes.Repeat([]byte("0123456789"), 2000) // five blocks
	w, err := c.fs.Create(ctx, "/d/file", 3)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := c.fs.Create(ctx, "/d/dead", 3)
	if err != nil {
		t.Fatal(err)
	}
	dead.Write(text[:5000])
	if err := dead.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(text); i += 2000 {
		switch i {
		case 6000:
			if err := c.active(t).Become(ctx, ha.Standby); err != nil && !errors.Is(err, ha.ErrNotActive) {
				t.Logf("hand over: %v", err)
			}
		case 10000:
			f, err := c.fs.Stat(ctx, "/d/file")
			if err != nil || len(f.Blocks) == 0 || len(f.Blocks[0].Nodes) == 0 {
				t.Fatalf("%+v, %v", f, err)
			}
			c.kill[f.Blocks[0].Nodes[0].Name]()
		}
		if _, err := w.Write(text[i : i+2000]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.fs.Put(ctx, "/d/file", 1, bytes.NewReader(nil)); err == nil {
		t.Error("a file was written twice")
	}

	if err := c.fs.Recover(ctx, "/d/dead"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is taken from its writer", func() bool {
		f, err := c.fs.Stat(ctx, "/d/dead")
		return err == nil && !f.Open
	})
	dead.Write(text[:5000])
	var refused *dfs.Error
	if err := dead.Close(); err == nil || errors.As(err, &refused) && refused.Code != dfs.NotHolder {
		t.Errorf("the writer that was given up: %v", err)
	}
	if err := c.fs.Rename(ctx, "/d", "/e"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{"/e/file": text, "/e/dead": text[:5000]} {
		var got bytes.Buffer
		if err := c.fs.Get(ctx, path, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: %d bytes of %d, %v", path, got.Len(), len(want), err)
		}
	}
	eventually(t, "all is at three DataNodes again", func() bool {
		h, err := c.fs.Fsck(ctx, "/")
		return err == nil && h.Files == 2 && h.Blocks == 7 && h.Replicas == 21 && len(h.Few) == 0
	})
	if err := c.fs.Remove(ctx, "/e"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every NameNode has heard that nothing is left", func() bool {
		for i, n := range c.nodes {
			if st := c.servers[i].status(n); st.Replicas+st.Files+st.Blocks > 0 {
				return false
			}
		}
		return true
	})
}
