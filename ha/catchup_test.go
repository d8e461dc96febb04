package ha_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

var lagBytes = flag.Int64("lag.bytes", 32<<20, "how many bytes TestT21_BesideReaders lets a member lag")

// far reads a member's first CompactedError.
func far(t *testing.T, n *ha.Node) *ha.CompactedError {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for e, err := range n.Subscribe(ctx, 1) {
		var gone *ha.CompactedError
		if !errors.As(err, &gone) {
			t.Fatalf("record 1 should be compacted away on %s: %d, %v", n.Status().Name, e.Index, err)
		}
		return gone
	}
	panic("unreachable")
}

// A member that was away for longer than the log is kept catches up through a snapshot that is streamed
// to it, with a state machine and without.
func TestG6_LateMemberGetsSnapshot(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		name := map[bool]string{false: "state machine", true: "records only"}[bare]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const away, more = 700, 20
			c := newCluster(t, 3, compacting)
			c.bare = bare
			c.startAll()
			c.fill(1, 10)
			_, token := c.active()
			late := c.others(token.Holder)[0]
			c.stop(late)
			c.fill(11, away)
			c.start(late)
			n := c.nodes[late]
			eventually(t, "the late member knows everything", func() bool { return n.Status().Index == away })
			last := uint64(away)
			check := func() {
				t.Helper()
				if !bare {
					c.awaitSum(last*(last+1)/2, int(last))
				}
				for _, n := range c.nodes {
					eventually(t, "everything is known", func() bool { return n.Status().Index == last })
					gone := far(t, n)
					if gone.Index != 1 || gone.First <= 1 || gone.First > last+1 {
						t.Fatalf("%s: %v of %d records", n.Status().Name, gone, last)
					}
					continueFrom(t, n, gone.First, last)
				}
			}
			check()
			c.fill(last+1, last+more)
			last += more
			check()
			c.closeAll()
			c.startAll()
			c.fill(last+1, last+more)
			last += more
			check()
			c.closeAll()
		})
	}
}

// A member catches up while the others go on appending (G8, T21), so that the snapshot on its way is not the
// newest any more when it arrives.
func TestT21_LateMemberCatchesUpUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, compacting)
	c.startAll()
	c.fill(1, 1)
	_, token := c.active()
	late := c.others(token.Holder)[0]
	c.stop(late)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	live := []*ha.Node{}
	for _, n := range c.nodes {
		live = append(live, n)
	}
	defer all.Wait()
	defer stop()
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				for _, n := range live {
					if s := n.Status(); s.State == ha.Active {
						n.Append(context.Background(), s.Token, filler(0))
					}
				}
			}
		})
	}
	eventually(t, "the log is compacted", func() bool { return live[0].Status().Index > 500 })
	c.start(late)
	n := c.nodes[late]
	for range 3 { // again and again it comes to where the others were
		target := live[0].Status().Index
		eventually(t, "the late member catches up under load", func() bool { return n.Status().Index >= target })
	}
	stop()
	all.Wait()
	last := c.put(filler(0))
	_, want := c.sums[live[0].Status().Name].value()
	for name := range c.nodes {
		eventually(t, name+" has applied everything", func() bool {
			_, got := c.sums[name].value()
			return got == int(last) && got >= want
		})
	}
	c.closeAll()
}

// A member comes back that lacks a log of which little is in memory, while ten readers read it from its first record on and a backup is written, each to its
// end, beside appends: no append fails, the role stays where it is, and no member takes more memory than it may. For gigabytes, with the appends' times:
//
//	go test ./ha -run T21_BesideReaders -v -lag.bytes=2147483648
func TestT21_BesideReaders(t *testing.T) { // alone, since it looks at the memory of all
	const budget = 32 << 20
	c := newCluster(t, 3, func(cfg *ha.Config) {
		steady(cfg)
		if cfg.Name != "a" {
			cfg.StayAway = "for the test" // so that nobody is handed the role of one that a busy machine starves
		}
		cfg.MaxRecord, cfg.MemoryBytes, cfg.RetainBytes, cfg.CheckpointBytes = 1<<20, budget, 1<<40, max(1, *lagBytes/4)
	})
	c.bare = true // so that a backup is all of the log
	c.startAll()
	n, token := c.active()
	late := c.others(token.Holder)[0]
	c.stop(late)
	record := slices.Concat(number(0), bytes.Repeat([]byte{'x'}, 16<<10))
	for left := *lagBytes; left > 0; left -= 32 * int64(len(record)) {
		if _, err := n.AppendBatch(t.Context(), token, slices.Repeat([][]byte{record}, 32)...); err != nil {
			t.Fatal(err)
		}
	}
	lacks := n.Status().Index

	var took []time.Duration
	var appended atomic.Int64
	small := func() {
		began := time.Now()
		if _, err := n.Append(context.Background(), token, number(0)); err != nil {
			t.Errorf("append %d: %v", len(took), err)
		}
		took = append(took, time.Since(began))
		appended.Add(1)
	}
	for range 200 {
		small()
	}
	alone := took
	took = nil

	used := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most := used(), int64(0)
	over := make(chan struct{})
	var beside, through sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(over)
		beside.Wait()
	})
	defer end()
	beside.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				small()
			}
		}
	})
	beside.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				most = max(most, used()-before)
			}
		}
	})
	began, at := time.Now(), appended.Load()
	c.start(late)
	var read atomic.Int64
	for range 10 {
		through.Go(func() {
			next := uint64(1)
			for e, err := range n.Subscribe(t.Context(), 1) {
				if err != nil || e.Index != next || next <= lacks && !bytes.Equal(e.Data, record) {
					t.Errorf("record %d: %d, %v", next, e.Index, err)
					return
				}
				read.Add(1)
				if next++; next > lacks {
					return
				}
			}
		})
	}
	through.Go(func() {
		if info, err := n.Backup(t.Context(), io.Discard); err != nil || info.Index < lacks {
			t.Errorf("backup: %+v, %v", info, err)
		}
	})
	for index := uint64(0); index < lacks; index = c.nodes[late].Status().Index { // as long as it takes
		eventually(t, "the late member comes nearer", func() bool { return c.nodes[late].Status().Index > index })
	}
	caught := time.Since(began)
	for was := int64(0); was < 10*int64(lacks); was = read.Load() {
		eventually(t, "somebody reads on", func() bool { return read.Load() > was || t.Failed() })
		if t.Failed() {
			break
		}
	}
	through.Wait()
	all := time.Since(began)
	eventually(t, "appends go on", func() bool { return appended.Load() > at })
	end()
	if err := n.Check(token); err != nil {
		t.Errorf("the role has ended: %v", err)
	}
	if limit := int64(len(c.nodes) * budget); most > limit {
		t.Errorf("%d bytes of memory are held besides, and %d members may have %d each", most, len(c.nodes), budget)
	}
	slices.Sort(alone)
	slices.Sort(took)
	t.Logf("%d bytes: caught up after %v, read ten times after %v, beside %d appends; median %v, p99 %v (alone %v, %v); memory held %.1f MiB", *lagBytes, caught, all, len(took),
		took[len(took)/2], took[len(took)*99/100], alone[len(alone)/2], alone[len(alone)*99/100], float64(most)/(1<<20))
	last := c.put(number(0))
	for name, n := range c.nodes {
		eventually(t, name+" has everything", func() bool { return n.Status().Index >= last })
	}
	c.closeAll()
}
