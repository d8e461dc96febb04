package ha_test

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// heavy is a counter with a large state.
type heavy struct{ counter }

const ballast = 3 << 20

func (h *heavy) Snapshot() (io.WriterTo, error) {
	s, err := h.counter.Snapshot()
	return heavySnapshot{s}, err
}

type heavySnapshot struct{ io.WriterTo }

func (s heavySnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := s.WriterTo.WriteTo(w)
	if err != nil {
		return n, err
	}
	m, err := w.Write(bytes.Repeat([]byte("ballast "), ballast/8))
	return n + int64(m), err
}

// holds reports whether a member still holds a record.
func holds(n *ha.Node, index uint64) bool {
	for _, err := range n.Subscribe(context.Background(), index) {
		return err == nil
	}
	return false
}

// TestSnapshotGoesOn: a member that gets a large snapshot at a limited rate is stopped in the middle, and started again. It gets the
// rest of the same one, although the leader has made others meanwhile, and then what is behind it.
func TestSnapshotGoesOn(t *testing.T) {
	t.Parallel()
	machines := map[string]*heavy{}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.CacheBytes, cfg.CheckpointBytes, cfg.RetainBytes, cfg.SnapshotLimit = 16<<10, 128<<10, 64<<10, 2<<20
		machines[cfg.Name] = new(heavy)
		cfg.StateMachine = machines[cfg.Name]
	})
	c.startAll()
	c.fill(1, 10)
	_, token := c.active()
	late := c.others(token.Holder)[0]
	c.stop(late)
	last := uint64(10)
	more := func(n uint64) { c.fill(last+1, last+n); last += n }
	checkpoints := func() { // without waiting for as much log as they are large
		for _, name := range c.others(late) {
			if _, err := c.nodes[name].Backup(t.Context(), io.Discard); err != nil {
				t.Fatal(err)
			}
		}
	}
	for more(300); holds(c.nodes[c.others(late)[0]], 11) || holds(c.nodes[c.others(late)[1]], 11); more(100) {
		if checkpoints(); last > 5000 {
			t.Fatal("the log is not cut")
		}
	}
	receives := func(least int64) func() bool {
		return func() bool {
			for _, s := range c.nodes[late].Status().Snapshots {
				if !s.Sends && s.Bytes >= least && s.Size > ballast {
					return true
				}
			}
			return false
		}
	}
	c.start(late)
	eventually(t, "a part of the snapshot is there", receives(1<<20))
	for _, s := range c.nodes[token.Holder].Status().Snapshots {
		if s.Peer != late || !s.Sends || s.Size <= ballast {
			t.Errorf("the leader shows %+v", s)
		}
	}
	c.stop(late)
	stopped := time.Now()
	more(200)
	checkpoints()
	c.start(late)
	eventually(t, "the rest is on its way", receives(1<<20))
	away := time.Since(stopped)
	more(20)
	eventually(t, "it has everything", func() bool { _, n := machines[late].value(); return n == int(last) })
	if _, now := c.active(); now != token || away > 20*time.Second {
		t.Skip("another leader has sent another snapshot, or this one has given up: the machine is too busy")
	}
	for _, p := range c.nodes[token.Holder].Stats().Net.Peers {
		if s := p.Snapshots; p.Name == late && s.SkippedBytes < 1<<19 { // what is shown as received may not be written yet
			t.Errorf("%d bytes were sent, %d were there already", s.SentBytes, s.SkippedBytes)
		}
	}
	eventually(t, "nothing is on its way", func() bool { return len(c.nodes[late].Status().Snapshots) == 0 })
}
