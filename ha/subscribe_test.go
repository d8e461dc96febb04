package ha_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// T12: many subscribers on all members, from many places, through a hand-over, a restart and a stop.
func TestT12_ManySubscribers(t *testing.T) {
	t.Parallel()
	const subscribers, batch = 51, 40
	c := newCluster(t, 3, nil)
	c.startAll()
	var mu sync.Mutex // guards live
	live := map[string]*ha.Node{}
	publish := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		live[name] = c.nodes[name]
	}
	for _, m := range c.members {
		publish(m.Name)
	}
	const total = 4 * batch
	done := errors.New("seen enough")
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var seen [subscribers]atomic.Uint64
	var all sync.WaitGroup
	for i := range subscribers {
		name, next := c.members[i%3].Name, uint64(i*3%(2*batch))
		all.Go(func() {
			if next == 0 {
				next = 1 // 0 means the same
			}
			for from := uint64(i * 3 % (2 * batch)); ; from = next {
				mu.Lock()
				n := live[name]
				mu.Unlock()
				var last error
				for e, err := range n.Subscribe(ctx, from) {
					if last != nil {
						t.Errorf("subscriber %d: something follows the error %v", i, last)
					}
					if last = err; err != nil {
						continue
					}
					if e.Index != next || value(e.Data) != next {
						t.Errorf("subscriber %d: record %d is %d with %d", i, next, e.Index, value(e.Data))
						return
					}
					next++
					seen[i].Store(e.Index)
				}
				switch {
				case errors.Is(last, done):
					return
				case !errors.Is(last, ha.ErrClosed):
					t.Errorf("subscriber %d: %v", i, last)
					return
				}
				time.Sleep(time.Millisecond) // until the member is open again
			}
		})
	}
	var written uint64
	write := func() {
		for range batch {
			if index := c.put(number(written + 1)); index != written+1 {
				t.Fatalf("record %d has index %d", written+1, index)
			}
			written++
		}
	}
	write()
	_, token := c.active()
	c.handOver(token)
	write()
	_, token = c.active()
	c.stop(token.Holder) // the Active, without being asked for its role before
	write()
	c.start(token.Holder)
	publish(token.Holder)
	write()
	for i := range seen {
		eventually(t, fmt.Sprintf("subscriber %d sees record %d", i, total), func() bool { return seen[i].Load() == total })
	}
	stop(done)
	all.Wait()
	c.closeAll()
}

func TestG6_SubscribeEnds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	c.startAll()
	for i := range uint64(5) {
		c.put(number(i + 1))
	}
	n := c.nodes["a"]
	cause := errors.New("enough")

	t.Run("ctx", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var got []uint64
		var errs []error
		for e, err := range n.Subscribe(ctx, 0) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if got = append(got, e.Index); len(got) == 3 {
				cancel(cause)
			}
		}
		if len(got) != 3 || got[0] != 1 || len(errs) != 1 || !errors.Is(errs[0], cause) {
			t.Errorf("records %d, errors %v", got, errs)
		}
	})
	t.Run("ended ctx", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cancel(cause)
		for e, err := range n.Subscribe(ctx, 1) {
			if !errors.Is(err, cause) {
				t.Errorf("%+v, %v", e, err)
			}
		}
	})
	t.Run("waiting", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		errs := make(chan error, 9)
		go func() {
			defer close(errs)
			for _, err := range n.Subscribe(ctx, 6) {
				errs <- err
			}
		}()
		cancel(cause)
		if err := receive(t, "the end", errs); !errors.Is(err, cause) {
			t.Errorf("waiting subscriber: %v", err)
		}
		if err, more := <-errs; more {
			t.Errorf("after the error: %v", err)
		}
	})
	t.Run("break", func(t *testing.T) {
		for want := range uint64(5) {
			for e, err := range n.Subscribe(t.Context(), want+1) {
				if err != nil || e.Index != want+1 {
					t.Errorf("%+v, %v", e, err)
				}
				break
			}
		}
	})
	t.Run("reuse", func(t *testing.T) {
		stream := n.Subscribe(t.Context(), 2)
		for range 2 { // each range begins anew
			for e, err := range stream {
				if err != nil || e.Index != 2 {
					t.Errorf("%+v, %v", e, err)
				}
				break
			}
		}
	})
	t.Run("close", func(t *testing.T) {
		errs := make(chan error, 9)
		begun := make(chan struct{})
		go func() {
			defer close(errs)
			for e, err := range n.Subscribe(context.Background(), 5) {
				if err != nil {
					errs <- err
				} else if e.Index == 5 {
					close(begun)
				}
			}
		}()
		receive(t, "record 5", begun)
		c.stop("a")
		if err := receive(t, "the end", errs); !errors.Is(err, ha.ErrClosed) {
			t.Errorf("close: %v", err)
		}
		if err, more := <-errs; more {
			t.Errorf("after the error: %v", err)
		}
		last := error(nil)
		for _, err := range n.Subscribe(t.Context(), 6) {
			last = err
		}
		if !errors.Is(last, ha.ErrClosed) {
			t.Errorf("subscribe after Close: %v", last)
		}
	})
}

// A subscriber may begin anywhere, also in the middle of a batch, and on each member sees the same.
func TestG6_SubscribeFromEveryIndex(t *testing.T) {
	t.Parallel()
	const writers, each = 32, 5
	c := newCluster(t, 3, nil)
	c.startAll()
	n, token := c.active()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if _, err := n.Append(t.Context(), token, number(uint64(w*each+i+1))); err != nil {
					t.Errorf("append: %v", err) // the role has ended early
					return
				}
			}
		})
	}
	all.Wait()
	last := c.put(number(0))
	want := records(t, n, last)
	for name, n := range c.nodes {
		eventually(t, name+" knows everything", func() bool { return n.Status().Index == last })
		for from := uint64(1); from <= last; from++ {
			next := from
			for e, err := range n.Subscribe(t.Context(), from) {
				if err != nil || e.Index != next || value(e.Data) != value(want[next-1].Data) {
					t.Fatalf("%s: from %d on: record %d is %d with %d, %v", name, from, next, e.Index, value(e.Data), err)
				}
				if next++; next > last {
					break
				}
			}
		}
	}
}

// stalled begins to read a log, stops behind its first record, and goes on when released; the result is
// the records read and the error that ended it.
func stalled(t *testing.T, n *ha.Node, until uint64) (release func() (got uint64, err error)) {
	t.Helper()
	first, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var got uint64
	var last error
	go func() {
		defer close(done)
		for e, err := range n.Subscribe(context.Background(), 1) {
			if last = err; err != nil {
				return
			}
			if got++; e.Index != got || value(e.Data) != got {
				last = fmt.Errorf("record %d is %d with %d", got, e.Index, value(e.Data))
				return
			}
			if got == 1 {
				close(first)
				<-goOn
			}
			if got == until {
				return
			}
		}
	}()
	receive(t, "the first record", first)
	return func() (uint64, error) {
		close(goOn)
		receive(t, "the end of the subscriber", done)
		return got, last
	}
}

// filler is a record of 1 KiB.
func filler(v uint64) []byte { return append(number(v), make([]byte, 1016)...) }

// fill appends records of 1 KiB with rising numbers, from how many there are, by many goroutines'
// worth of batches.
func (c *cluster) fill(from, to uint64) {
	c.t.Helper()
	for i := from; i <= to; i++ {
		if index := c.put(filler(i)); index != i {
			c.t.Fatalf("record %d has index %d", i, index)
		}
	}
}

func TestT12_StalledSubscriberReadsFromDisk(t *testing.T) {
	t.Parallel()
	const count = 600
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.CacheBytes, cfg.CheckpointBytes = 16<<10, 64<<10 // and everything is retained
	})
	c.startAll()
	c.fill(1, 1)
	var release []func() (uint64, error)
	for _, n := range c.nodes {
		release = append(release, stalled(t, n, count))
	}
	c.fill(2, count) // is held up by nobody
	for _, f := range release {
		if got, err := f(); got != count || err != nil {
			t.Errorf("the stalled subscriber has read %d records and got %v", got, err)
		}
	}
}

func TestT12_StalledSubscriberIsCompacted(t *testing.T) {
	t.Parallel()
	const count = 600
	c := newCluster(t, 3, compacting)
	c.startAll()
	c.fill(1, 1)
	var release []func() (uint64, error)
	var nodes []*ha.Node
	for _, n := range c.nodes {
		release, nodes = append(release, stalled(t, n, count)), append(nodes, n)
	}
	c.fill(2, count)
	for i, f := range release {
		n := nodes[i]
		eventually(t, "everything is known", func() bool { return n.Status().Index >= count })
		got, err := f()
		var gone *ha.CompactedError
		if !errors.As(err, &gone) || !errors.Is(err, ha.ErrCompacted) || gone.Index != got+1 || gone.First <= gone.Index || gone.First > count+1 {
			t.Fatalf("the stalled subscriber has read %d records and got %v", got, err)
		}
		continueFrom(t, n, gone.First, count)
	}
}

// compacting makes members forget old records soon.
func compacting(cfg *ha.Config) {
	cfg.CacheBytes, cfg.CheckpointBytes, cfg.RetainBytes = 16<<10, 64<<10, 64<<10
}

// continueFrom reads on from where a CompactedError has pointed to. What lies before is refused.
func continueFrom(t *testing.T, n *ha.Node, first, last uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, err := range n.Subscribe(ctx, first-1) {
		var gone *ha.CompactedError
		if !errors.As(err, &gone) || gone.Index != first-1 || gone.First < first {
			t.Errorf("record %d: %v", first-1, err)
		}
	}
	if l := n.Stats().Log; l.First < first || l.Checkpoint < l.First-1 {
		t.Errorf("it says that it holds records from %d on and a checkpoint up to %d, after those before %d were given up", l.First, l.Checkpoint, first)
	}
	if first > last {
		return
	}
	next := first
	for e, err := range n.Subscribe(ctx, first) {
		if err != nil || e.Index != next || value(e.Data) != next {
			t.Fatalf("record %d: %d, %v", next, e.Index, err)
		}
		if next++; next > last {
			break
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	c.startAll()
	_, token := c.active()
	n := c.nodes[token.Holder]
	const watchers = 8
	var all sync.WaitGroup
	var mu sync.Mutex
	last := make([]ha.Status, watchers)
	saw := func(what string, ok func(ha.Status) bool) {
		t.Helper()
		eventually(t, "all watchers see "+what, func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range last {
				if !ok(s) {
					return false
				}
			}
			return true
		})
	}
	for i := range watchers {
		all.Go(func() {
			for s := range n.Watch(context.Background()) {
				mu.Lock()
				last[i] = s
				mu.Unlock()
			}
		})
	}
	saw("the present", func(s ha.Status) bool { return s.State == ha.Active })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan ha.State)
	go func() {
		for s := range n.Watch(ctx) {
			ended <- s.State
		}
		close(ended)
	}()
	receive(t, "a status", ended)
	cancel()
	eventually(t, "the watcher ends with its ctx", func() bool {
		select {
		case _, more := <-ended:
			return !more
		default:
			return false
		}
	})
	for s := range n.Watch(t.Context()) {
		if s.Name != token.Holder {
			t.Errorf("status of %q", s.Name)
		}
		break
	}
	c.handOver(token)
	_, next := c.activeOtherThan(token)
	saw("the new Active", func(s ha.Status) bool { return s.Active == next.Holder && s.Epoch == next.Epoch && s.ActiveAddr != "" })
	c.stop(token.Holder)
	all.Wait()
	for i, s := range last {
		if s.State != ha.Failed {
			t.Errorf("watcher %d saw %v last", i, s.State)
		}
	}
	c.closeAll()
}
