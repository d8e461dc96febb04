package raftfsm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/ha/raftfsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A member is a node with its FSM.
type member struct {
	*ha.Node
	machine *raftfsm.Machine
	store   *store
}

type cluster struct {
	t       testing.TB
	dir     string
	members []ha.Member
	of      map[string]*member
	ports   map[string]*os.File // keep them for members that are started again
}

func newCluster(t testing.TB, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), of: map[string]*member{}, ports: map[string]*os.File{}}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		t.Cleanup(func() { f.Close() })
		c.ports[name] = f
		c.members = append(c.members, ha.Member{Name: name, Addr: l.Addr().String()})
	}
	for _, name := range names {
		c.open(name, c.listener(name), nil)
	}
	t.Cleanup(func() {
		for _, m := range c.of {
			m.Close()
		}
	})
	return c
}

// listener listens on the port of a member.
func (c *cluster) listener(name string) net.Listener {
	c.t.Helper()
	l, err := net.FileListener(c.ports[name])
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

func (c *cluster) open(name string, l net.Listener, edit func(*ha.Config)) *member {
	c.t.Helper()
	b := new(batching)
	b.m = map[string]string{}
	m := &member{machine: raftfsm.New(b, raftfsm.Config{}), store: &b.store}
	cfg := ha.Config{
		Name: name, Dir: filepath.Join(c.dir, name), Cluster: "kv", Members: c.members, Listener: l, StateMachine: m.machine,
		Heartbeat: 100 * time.Millisecond, ElectionTimeout: 5 * time.Second, CheckpointBytes: 64 << 10, RetainBytes: 1,
		Logger: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if m.Node, err = ha.Open(cfg); err != nil {
		c.t.Fatal(err)
	}
	c.of[name] = m
	return m
}

func (c *cluster) active() (m *member) {
	c.t.Helper()
	eventually(c.t, "a member is active", func() bool {
		for _, m = range c.of {
			if m.Status().State == ha.Active {
				return true
			}
		}
		return false
	})
	return m
}

func (m *member) append(t testing.TB, op, key, value string) any {
	t.Helper()
	result, _, err := m.machine.Append(t.Context(), m.Node, m.Status().Token, encode(op, key, value))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// The FSM's own results come back on the Active, and as bytes from everywhere else; a late member gets the state by a snapshot.
func TestCluster(t *testing.T) {
	c := newCluster(t, "a", "b", "c")
	active := c.active()
	var standby *member
	for _, standby = range c.of {
		if standby != active {
			break
		}
	}
	if r := active.append(t, "set", "k", "v"); r != nil {
		t.Errorf("set: %v", r)
	}
	if r := active.append(t, "len", "", ""); r != 1 {
		t.Errorf("len: %v", r)
	}
	if r, ok := active.append(t, "delete", "x", "").(error); !ok || r.Error() != "no such key" {
		t.Errorf("delete: %v", r)
	}
	if _, _, err := active.machine.Append(t.Context(), active.Node, fence.Token{}, encode("len", "", "")); !errors.Is(err, ha.ErrNotActive) {
		t.Errorf("without a token: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	outside, err := client.Dial(ctx, client.Config{Cluster: "kv", Addrs: []string{c.members[0].Addr}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	callers := []raftfsm.Caller{outside}
	for _, m := range c.of {
		callers = append(callers, m.Node)
	}
	for _, caller := range callers {
		if r, err := raftfsm.Call(ctx, caller, encode("get", "k", "")); string(r.([]byte)) != "v" || err != nil {
			t.Errorf("get: %v, %v", r, err)
		}
		if r, err := raftfsm.Call(ctx, caller, encode("delete", "x", "")); err != nil || r.(error).Error() != "no such key" {
			t.Errorf("delete: %v, %v", r, err)
		}
		if r, err := raftfsm.Call(ctx, caller, encode("len", "", "")); err != nil || !strings.Contains(fmt.Sprint(r), "type int") {
			t.Errorf("len: %v, %v", r, err)
		}
	}

	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			key := fmt.Sprint("w", w)
			want := ""
			for i := range 50 {
				piece := fmt.Sprintf("%d,%s", i, strings.Repeat("x", 400))
				want += piece
				r, _, err := active.machine.Append(ctx, active.Node, active.Status().Token, encode("append", key, piece))
				if err != nil || r != want {
					t.Errorf("append %d to %s: %v, %v", i, key, r, err)
					return
				}
				if i%10 == 0 {
					if _, err := raftfsm.Call(ctx, outside, encode("set", "o", "p")); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	eventually(t, "a checkpoint has been written", func() bool { return active.Stats().Log.Checkpoints > 0 })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	late := ha.Member{Name: "d", Addr: l.Addr().String(), Kind: ha.KindObserver}
	c.open("d", l, func(cfg *ha.Config) {
		cfg.Join, cfg.Members = true, append(slices.Clone(c.members), late)
	})
	if err := active.AddMember(ctx, late); err != nil {
		t.Fatal(err)
	}
	same := func() {
		t.Helper()
		want := active.store.all()
		eventually(t, "all have the same state", func() bool {
			for _, m := range c.of {
				if !maps.Equal(m.store.all(), want) {
					return false
				}
			}
			return true
		})
	}
	same()
	eventually(t, "another member has written a checkpoint", func() bool { return standby.Stats().Log.Checkpoints > 0 })
	if err := standby.Close(); err != nil {
		t.Fatal(err)
	}
	active.append(t, "set", "meanwhile", "yes")
	if standby = c.open(standby.Status().Name, c.listener(standby.Status().Name), nil); standby.store.restored == 0 {
		t.Error("it has started without its checkpoint")
	}
	same()
}

// The same FSM with the same commands, on hashicorp/raft and here: the same results, and the same state.
func TestSameAsRaft(t *testing.T) {
	r, theirs := startRaft(t)

	ours := newCluster(t, "a").active()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		op := []string{"set", "delete", "append", "get", "len", "?"}[rnd.IntN(6)]
		cmd := encode(op, fmt.Sprint("k", rnd.IntN(10)), fmt.Sprint(rnd.IntN(100)))
		if rnd.IntN(20) == 0 {
			cmd = []byte("no JSON")
		}
		f := r.Apply(cmd, 0)
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
		got, _, err := ours.machine.Append(t.Context(), ours.Node, ours.Status().Token, cmd)
		if err != nil {
			t.Fatal(err)
		}
		want := f.Response()
		if _, ok := want.(error); ok && string(cmd) == "no JSON" {
			_, ok := got.(error)
			if !ok { // its text names the index, and raft's own entries take some
				t.Fatalf("%s: %v, raft says %v", cmd, got, want)
			}
			continue
		}
		if fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", want, want) {
			t.Fatalf("%s: %v, raft says %v", cmd, got, want)
		}
	}
	if !maps.Equal(theirs.all(), ours.store.all()) {
		t.Errorf("raft has %v, here is %v", theirs.all(), ours.store.all())
	}
}

// startRaft starts a hashicorp/raft of one member, in memory, and returns it with its FSM when it leads.
func startRaft(t *testing.T) (*raft.Raft, *batching) {
	t.Helper()
	theirs := &batching{store{m: map[string]string{}}}
	logs := raft.NewInmemStore()
	addr, transport := raft.NewInmemTransport("")
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.LogOutput = "a", io.Discard
	r, err := raft.NewRaft(cfg, theirs, logs, logs, raft.NewInmemSnapshotStore(), transport)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	if err := r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: "a", Address: addr}}}).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "raft has a leader", func() bool { return r.State() == raft.Leader })
	return r, theirs
}
