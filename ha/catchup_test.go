package ha_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
)

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
