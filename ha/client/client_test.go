package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/loopback"
)

// A client that knows one address learns of all members and of the Active, and follows a change of it. It survives that the
// member it has asked goes away.
func TestFollow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	first, _ := c.active()
	cl := dial(t, c.addr(first.Status().Name))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The role may move whenever this machine is slow.
	var m client.Member
	knows := func() (ok bool) {
		first, _ = c.active()
		var err error
		if m, err = cl.Active(ctx); err != nil || m.Addr != c.addr(m.Name) {
			t.Fatalf("%+v, %v", m, err)
		}
		return m.Name == first.Status().Name
	}
	eventually(t, "the client knows the Active", knows)
	names := ""
	for _, m := range cl.Members() {
		names += m.Name
	}
	if names != "abc" {
		t.Errorf("members %q", names)
	}
	others := func() bool { // than the Active that was dialled
		for _, m := range c.members {
			if n := c.node(m.Name); n != first && n.Stats().Net.ClientStreams.Served > 0 {
				return true
			}
		}
		return false
	}
	eventually(t, "the client listens to a member that is not active", others)
	// Whichever that is becomes it in turn, and is left for another one.
	served := func() (n uint64) {
		for _, m := range c.members {
			n += c.node(m.Name).Stats().Net.ClientStreams.Served
		}
		return n
	}
	before := served()
	for turn := 0; served() == before; turn++ {
		if ctx.Err() != nil {
			t.Fatal("the client goes on listening to one that has become active")
		}
		_ = c.node(c.members[turn%3].Name).Become(ctx, ha.Active)
		time.Sleep(50 * time.Millisecond)
	}
	eventually(t, "the client knows the Active", knows)
	epoch := cl.Cluster().Epoch
	c.stop(m.Name)
	for now := range cl.Watch(ctx) {
		if now.Active != m.Name && now.Active != "" {
			if now.Epoch <= epoch {
				t.Errorf("%+v follows epoch %d", now, epoch)
			}
			break
		}
	}
	if ctx.Err() != nil {
		t.Fatal("the client sees no new Active")
	}
	c.start(m.Name)
	if err := cl.Close(); err != nil {
		t.Error(err)
	}
	if _, err := cl.Active(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for _, err := range cl.Subscribe(t.Context(), 1) {
		if !errors.Is(err, client.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

// Members that take connections and say nothing, as those do whose processes are stopped, delay nobody who looks for one that answers.
func TestDialPastTheSilent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	addrs := c.addrs()
	for range 5 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addrs = append(addrs, ln.Addr().String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl, err := client.Dial(ctx, client.Config{Cluster: "test", Addrs: addrs, Logger: quiet(), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
}

// T12: remote readers, whose members are closed again and again, see 1 … n.
func TestT12_RemoteTails(t *testing.T) {
	t.Parallel()
	const readers, rounds, batch = 6, 6, 20
	c := newCluster(t, 3, nil)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	for i := range readers {
		all.Go(func() {
			records, next := cl.Subscribe(ctx, 0), uint64(1)
			if i%2 == 0 {
				records = cl.Borrow(ctx, 0)
			}
			for e, err := range records {
				if err != nil {
					t.Errorf("before record %d: %v", next, err)
					return
				}
				if e.Index != next || value(e.Data) != next {
					t.Errorf("record %d comes where %d should, with %d", e.Index, next, value(e.Data))
					return
				}
				if next++; next > rounds*batch {
					return
				}
			}
		})
	}
	written := uint64(0)
	for i := range rounds {
		for range batch {
			if index := c.put(number(written + 1)); index != written+1 {
				t.Fatalf("record %d has index %d", written+1, index)
			}
			written++
		}
		name := c.members[i%3].Name
		c.stop(name)
		c.start(name)
	}
	all.Wait()
}

func TestSubscribeEnds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	for i := range uint64(5) {
		c.put(number(i + 1))
	}
	cl := dial(t, c.addrs()...)
	if err := read(t.Context(), cl, 3, 2); err != nil {
		t.Error(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var got []uint64
	for e, err := range cl.Subscribe(ctx, 4) {
		if err != nil {
			if err != cause {
				t.Errorf("%v", err)
			}
			break
		}
		if got = append(got, e.Index); e.Index == 5 {
			cancel(cause)
		}
	}
	if len(got) != 2 {
		t.Errorf("records %d", got)
	}
	done := make(chan error)
	go func() { done <- read(t.Context(), cl, 6, 1) }()
	cl.Close()
	if err := <-done; !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Nobody waits longer than his ctx allows, and whoever is refused for good does not wait at all.
func TestDialFails(t *testing.T) {
	t.Parallel()
	nobody := loopback.Addr(t)
	cause := errors.New("enough")
	var cl *client.Client
	var err error
	for enough := 50 * time.Millisecond; enough < patience; enough *= 2 { // until it has tried meanwhile
		ctx, cancel := context.WithTimeoutCause(t.Context(), enough, cause)
		cl, err = client.Dial(ctx, client.Config{Cluster: "test", Addrs: []string{nobody}, Logger: quiet()})
		cancel()
		if cl != nil || strings.Contains(err.Error(), nobody) {
			break
		}
	}
	if cl != nil || !errors.Is(err, cause) || !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), nobody) {
		t.Errorf("%v, %v", cl, err)
	}

	c := newCluster(t, 1, nil)
	cl, err = client.Dial(t.Context(), client.Config{Cluster: "other", Addrs: c.addrs(), Logger: quiet()})
	if cl != nil || !errors.Is(err, client.ErrWrongCluster) {
		t.Errorf("%v, %v", cl, err)
	}
	if _, err := client.Dial(t.Context(), client.Config{Addrs: []string{"x"}}); err == nil || !strings.Contains(err.Error(), "Cluster") || !strings.Contains(err.Error(), "Addrs[0]") {
		t.Errorf("%v", err)
	}
}

// A record that no member holds is an error that says from where on there are some.
func TestCompacted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) { cfg.CheckpointBytes, cfg.RetainBytes = 1<<16, 1 })
	cl := dial(t, c.addrs()...)
	record := make([]byte, 8<<10)
	var last error
	eventually(t, "the log is cut", func() bool {
		for range 16 {
			c.put(record)
		}
		last = read(t.Context(), cl, 1, 1)
		return last != nil
	})
	var gone *client.CompactedError
	if !errors.As(last, &gone) || gone.Index != 1 || gone.First < 2 {
		t.Fatalf("%v", last)
	}
	if err := read(t.Context(), cl, gone.First, 1); err != nil && !errors.Is(err, client.ErrCompacted) {
		t.Error(err)
	}
}
