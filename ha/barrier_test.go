package ha_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// TestG11_ReadBarrier: behind a barrier each member reads what was acknowledged on any.
func TestG11_ReadBarrier(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	for i := range uint64(30) {
		n := c.put(number(1))
		if i == 10 { // the stream to the old leader is of no use any more
			_, token := c.active()
			c.handOver(token)
		}
		var reading sync.WaitGroup
		for name, node := range c.nodes {
			for range 3 {
				reading.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					err := node.ReadBarrier(ctx)
					for errors.Is(err, ha.ErrNoQuorum) && ctx.Err() == nil { // an election
						time.Sleep(time.Millisecond)
						err = node.ReadBarrier(ctx)
					}
					if _, records := c.sums[name].value(); err != nil || uint64(records) < n {
						t.Errorf("%s has applied %d records of %d: %v", name, records, n, err)
					}
				})
			}
		}
		reading.Wait()
	}
	for name, n := range c.nodes {
		eventually(t, name+" is up to date", func() bool { return n.Status().Lag.Records == 0 })
	}
}

// TestReadBarrierFails: without a majority it fails soon, and the status says how old the state is.
func TestReadBarrierFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	c.startAll()
	_, token := c.active()
	left := c.others(token.Holder)[0]
	for _, name := range c.others(left) {
		if err := c.nodes[name].Close(); err != nil {
			t.Fatal(err)
		}
		delete(c.nodes, name)
	}
	n := c.nodes[left]
	eventually(t, "no leader is known", func() bool { return n.Status().Leader == "" })
	began := time.Now()
	if err := n.ReadBarrier(t.Context()); !errors.Is(err, ha.ErrNoQuorum) {
		t.Errorf("without a majority: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %v", took)
	}
	lag := n.Status().Lag.Time
	eventually(t, "the state gets older", func() bool { return n.Status().Lag.Time > lag+100*time.Millisecond })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.ReadBarrier(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("with a ctx that has ended: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := n.ReadBarrier(t.Context()); !errors.Is(err, ha.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestReadBarrierReentrant: within the state machine nothing can be waited for that is yet to be applied.
func TestReadBarrierReentrant(t *testing.T) {
	t.Parallel()
	inside, nodes := make(chan error, 1), make(chan *ha.Node, 1)
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.StateMachine = curious{new(counter), func() { inside <- (<-nodes).ReadBarrier(context.Background()) }}
	})
	c.startAll()
	n, token := c.active()
	nodes <- n
	if _, err := n.Append(t.Context(), token, number(1)); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the answer", inside); !errors.Is(err, ha.ErrReentrant) {
		t.Errorf("within Apply: %v", err)
	}
}

// A curious machine asks something in Apply.
type curious struct {
	*counter
	ask func()
}

func (m curious) Apply(entries []ha.Entry) error {
	m.ask()
	return m.counter.Apply(entries)
}
