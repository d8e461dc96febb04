package client_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/loopback"
)

var soakRounds = flag.Int("soak.rounds", 0, "rounds of TestSoak, at least 36; from 200 on memory is looked at, too")

// forgetful is a state machine without a state.
type forgetful struct{}

func (forgetful) Apply([]ha.Entry) error         { return nil }
func (forgetful) Snapshot() (io.WriterTo, error) { return bytes.NewReader(make([]byte, 1000)), nil }
func (forgetful) Restore(state io.Reader) error  { _, err := io.Copy(io.Discard, state); return err }

// held is what there is when everything has come to rest: goroutines, descriptors and live memory of this process, files of the members.
type held [4]int

var heldNames = [len(held{})]string{"goroutines", "descriptors", "bytes of memory", "files"}

func (c *cluster) holds() (h held) {
	c.t.Helper()
	runtime.GC()
	runtime.GC() // what pools have let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h[0], h[2] = runtime.NumGoroutine(), int(m.HeapAlloc)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		c.t.Skip("tells of descriptors on Linux only: ", err)
	}
	h[1] = len(open)
	_ = filepath.WalkDir(c.dir, func(_ string, d fs.DirEntry, err error) error { // some go away meanwhile
		if err == nil && !d.IsDir() {
			h[3]++
		}
		return nil
	})
	return h
}

// TestSoak: a process in which members, clients, connections, roles and strangers come and go holds no more afterwards than before: no goroutine, no
// descriptor, no file. What grows is bounded (sessions, the recorder's events) or small (epochs, ids that have left).
func TestSoak(t *testing.T) {
	rounds := max(36, *soakRounds)
	c := newCluster(t, 3, func(cfg *ha.Config) {
		appending(cfg)
		cfg.StateMachine, cfg.ElectionTimeout, cfg.Join = forgetful{}, 300*time.Millisecond, cfg.Name == "d"
		cfg.CacheBytes, cfg.CheckpointBytes, cfg.RetainBytes = 1<<20, 1<<20, 1<<20
	})
	var least []held // in each sixth of the rounds
	for i := range rounds {
		c.soak(i)
		part := i * 6 / rounds
		if part == len(least) {
			least = append(least, held{})
		}
		if i%3 > 0 {
			continue
		}
		for range 10 { // what has ended takes a while to be gone
			for j, n := range c.holds() {
				if old := &least[part][j]; *old == 0 || n < *old {
					*old = n
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	t.Logf("%v: %v", heldNames, least)
	between := rounds / 2
	// Sessions that have nothing to do come and go, a dozen goroutines at a time.
	for j, more := range (held{max(between/3, 20), max(between/3, 12), between * 16 << 10, max(between/3, 6)}) {
		if j == 2 && rounds < 200 {
			continue // collections differ by more
		}
		if first, last := min(least[1][j], least[2][j]), min(least[4][j], least[5][j]); last > first+more {
			t.Errorf("%d %s have become %d in %d rounds", first, heldNames[j], last, between)
		}
	}
}

// soak is a round of everything that comes and goes. "a" always stays.
func (c *cluster) soak(i int) {
	t, ctx := c.t.(*testing.T), c.t.Context()
	cl, err := client.Dial(ctx, client.Config{Cluster: "test", Addrs: c.addrs(), Logger: quiet(), Operator: true})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	last := c.put(make([]byte, 100_000))
	working, leave := context.WithCancel(ctx)
	defer leave()
	go func() { _ = cl.Announce(working, client.Worker{Name: "w", Every: time.Second}) }()
	for _, m := range c.members {
		again(t, "a barrier", c.node(m.Name).ReadBarrier)
		if _, err := c.node(m.Name).Call(ctx, number(uint64(i))); err != nil {
			t.Error(err)
		}
		if _, err := cl.Status(ctx, m.Name); err != nil {
			t.Error(err)
		}
		if stranger, err := net.Dial("tcp", m.Addr); err == nil {
			_, _ = stranger.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			defer stranger.Close()
		}
	}
	if _, err := cl.Call(ctx, number(uint64(i))); err != nil {
		t.Error(err)
	}
	if err := read(ctx, cl, last, 2); err != nil {
		t.Error(err)
	}
	if err := cl.SaveCursor(ctx, "soak", last); err != nil {
		t.Error(err)
	}
	again(t, "a backup", func(ctx context.Context) error { _, err := cl.Backup(ctx, "", io.Discard); return err })
	switch i % 4 {
	case 0:
		n, _ := c.active()
		again(t, "the role is given up", func(ctx context.Context) error { return n.Become(ctx, ha.Standby) })
	case 1:
		name := c.members[1+i/4%2].Name
		c.stop(name)
		c.start(name)
	case 2:
		again(t, "the role comes back", func(ctx context.Context) error { return c.node("a").Become(ctx, ha.Active) })
	case 3:
		d := client.NewMember{Name: "d", Addr: loopback.Addr(t), Kind: "observer"}
		c.members = append(c.members, ha.Member{Name: d.Name, Addr: d.Addr, Kind: ha.KindObserver})
		c.start(d.Name)
		again(t, "d is added", func(ctx context.Context) error { return cl.AddMember(ctx, d) })
		again(t, "d is removed", func(ctx context.Context) error { return cl.RemoveMember(ctx, d.Name) })
		eventually(t, "d has stopped", func() bool { return c.node(d.Name).Status().State == ha.Failed })
		_ = c.take(d.Name).Close() // it says that it was removed
		c.members = slices.Clip(c.members[:3])
		if err := os.RemoveAll(filepath.Join(c.dir, d.Name)); err != nil {
			t.Error(err)
		}
	}
}
