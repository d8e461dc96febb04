//go:build unix

package client_test

import (
	"context"
	"flag"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/loopback"
)

var stopped = flag.Int("stopped", 0, "how often TestT3_StoppedActive stops the process of the Active")

// T3: the process of the Active is stopped. Calls from outside, and those on a member, turn away from it as soon as another is Active: clients that
// have called it before, that were listening to it when it became the Active, that have not called yet, and that come only now.
//
// Run it with: go test ./ha/client -run TestT3_StoppedActive -stopped=10 -v
func TestT3_StoppedActive(t *testing.T) {
	if *stopped == 0 {
		t.Skip("see -stopped")
	}
	c := &cluster{t: t, dir: t.TempDir(), nodes: map[string]*ha.Node{}, edit: func(cfg *ha.Config) {
		cfg.Heartbeat, cfg.ElectionTimeout = 0, 0
		appending(cfg)
	}}
	for _, name := range []string{"a", "b", "c"} {
		c.members = append(c.members, ha.Member{Name: name, Addr: loopback.Addr(t)})
	}
	a := c.spawn("a")
	defer func() {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	}()
	defer c.stopAll()
	c.start("b")
	c.start("c")
	signal := func(s syscall.Signal) {
		if err := a.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	var made atomic.Uint64
	call := func(call func(context.Context, []byte) ([]byte, error)) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := call(ctx, number(made.Add(1))); err != nil {
			t.Errorf("call: %v", err)
		}
	}
	var mu sync.Mutex                    // guards took
	took := map[string][]time.Duration{} // from the stop to the answer
	for range *stopped {
		b := c.node("b")
		eventually(t, "b is active", func() bool { return b.Become(t.Context(), ha.Active) == nil && b.Status().State == ha.Active })
		var old, idle [4]*client.Client // of which some listen to a
		for i := range old {
			old[i], idle[i] = dial(t, c.addrs()...), dial(t, c.addrs()...)
		}
		for _, name := range []string{"b", "c"} {
			n := c.node(name)
			eventually(t, name+" stays away", func() bool { return n.StayAway(t.Context(), "test") == nil })
		}
		eventually(t, "a is active", func() bool {
			is := b.Status().Active == "a" && c.node("c").Status().Active == "a"
			for i := range old {
				is = is && old[i].Cluster().Active == "a" && idle[i].Cluster().Active == "a"
			}
			return is
		})
		b.ComeBack()
		c.node("c").ComeBack()
		call(b.Call)
		for _, cl := range old {
			call(cl.Call)
		}
		time.Sleep(300 * time.Millisecond)
		signal(syscall.SIGSTOP)
		began := time.Now()
		var all sync.WaitGroup
		measure := func(what string, f func(context.Context, []byte) ([]byte, error)) {
			all.Go(func() {
				call(f)
				mu.Lock()
				defer mu.Unlock()
				took[what] = append(took[what], time.Since(began))
			})
		}
		measure("on a member", b.Call)
		for i := range old {
			measure("that called before", old[i].Call)
			measure("that listened", idle[i].Call)
			measure("that comes", func(ctx context.Context, data []byte) ([]byte, error) { return dial(t, c.addrs()...).Call(ctx, data) })
		}
		all.Wait()
		signal(syscall.SIGCONT)
	}
	for what, all := range took {
		slices.Sort(all)
		median := all[len(all)/2]
		t.Logf("a call %s took %v (median), %v at most, of %d", what, median.Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond), len(all))
		if median > 2500*time.Millisecond { // five election timeouts
			t.Errorf("a call %s took %v (median)", what, median)
		}
	}
}
