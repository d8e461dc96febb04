package ha_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/storage"
)

// TestRmdir: a member whose directory is moved away under it stops, although nothing is appended. The others go on.
func TestRmdir(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	c.startAll()
	c.put(number(1))
	_, token := c.active()
	lost := c.others(token.Holder)[0]
	if err := os.Rename(filepath.Join(c.dir, lost), filepath.Join(c.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the member has stopped", func() bool { return c.nodes[lost].Status().State == ha.Failed })
	var gone *storage.LostError
	if err := c.nodes[lost].Status().Err; !errors.As(err, &gone) {
		t.Errorf("status: %v", err)
	}
	c.put(number(2))
	c.nodes[lost].Close()
	delete(c.nodes, lost)
}

// mute is a counter that cannot capture its state while it is told so.
type mute struct {
	*counter
	sick *atomic.Bool
}

func (m mute) Snapshot() (io.WriterTo, error) {
	if m.sick.Load() {
		return nil, errSick
	}
	return m.counter.Snapshot()
}

// TestSnaperr: members whose state machines cannot be captured go on, say so in Status, and try again by themselves.
func TestSnaperr(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	sick.Store(true)
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		cfg.CheckpointBytes, cfg.RetainBytes = 100, 100
		cfg.StateMachine = mute{new(counter), &sick}
	})
	c.startAll()
	problem := func(n *ha.Node) bool {
		return slices.ContainsFunc(n.Status().Problems, func(p ha.Problem) bool { return p.Kind == "checkpoint" && errors.Is(p.Err, errSick) })
	}
	for i := range uint64(30) {
		c.put(number(i))
	}
	for _, n := range c.nodes {
		eventually(t, "the problem is shown", func() bool { return problem(n) })
	}
	sick.Store(false)
	for _, n := range c.nodes {
		eventually(t, "the problem is over", func() bool { return !problem(n) })
		if s := n.Status(); s.State == ha.Failed {
			t.Error(s.Err)
		}
	}
	c.put(number(1))
}
