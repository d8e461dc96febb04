package ha_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// Every part counts what it has done, and what two parts both see they count alike.
func TestStats(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) {
		steady(cfg)
		cfg.MaxRecord, cfg.CheckpointBytes = 64<<10, 1<<10
	})
	c.start("a", "b", "c")
	n, token := c.active()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const records, size = 200, 8
	read := make(chan uint64, 1)
	go func() {
		count := uint64(0)
		for _, err := range n.Subscribe(ctx, 1) {
			if err != nil {
				break
			}
			if count++; count == records {
				break
			}
		}
		read <- count
	}()
	var appending sync.WaitGroup
	for range 4 {
		appending.Go(func() {
			for range records / 4 {
				if _, err := n.Append(ctx, token, number(1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	appending.Wait()
	if got := receive(t, "subscriber", read); got != records {
		t.Errorf("%d records were read", got)
	}
	over, stop := context.WithCancel(ctx)
	stop()
	for _, err := range []error{
		second(n.Append(ctx, token, make([]byte, 65<<10))), second(n.Append(over, token, number(1))),
	} {
		if err == nil {
			t.Error("an append that cannot be was made")
		}
	}
	stale := token
	stale.Epoch--
	if _, err := n.Append(ctx, stale, number(1)); !errors.Is(err, ha.ErrFenced) && !errors.Is(err, ha.ErrNotActive) {
		t.Error(err)
	}

	s := n.Stats()
	l := s.Log
	if l.Appended != records || l.Failed < 1 || l.Unknown+l.Abandoned+l.Busy+l.NoRoom != 0 {
		t.Errorf("outcomes %+v", l)
	}
	if l.Batches == 0 || l.Batches > records || l.BatchRecords.Sum != records || l.BatchBytes.Sum < records*size || l.AppendTime.Count != l.Batches || l.CommitTime.Count != l.Batches || l.ApplyTime.Count == 0 {
		t.Errorf("batches %d, records %d, bytes %d, %d and %d times", l.Batches, l.BatchRecords.Sum, l.BatchBytes.Sum, l.AppendTime.Count, l.CommitTime.Count)
	}
	if a, co := l.AppendTime, l.CommitTime; a.Max <= 0 || a.Max > int64(patience) || co.Sum <= 0 || co.Sum > a.Sum {
		t.Errorf("an append takes %v to be committed and %v until it is answered", time.Duration(co.Mean()), time.Duration(a.Mean()))
	}
	if l.Proposed != 0 || l.Waiting != 0 {
		t.Errorf("under way: %d batches, %d bytes", l.Proposed, l.Waiting)
	}
	if l.Read != records || l.Elections < 1 || l.Won < 1 || l.Epochs < 1 || l.LeaseRenewals < 1 {
		t.Errorf("read %d, elections %d, won %d, epochs %d, renewals %d", l.Read, l.Elections, l.Won, l.Epochs, l.LeaseRenewals)
	}
	// A heartbeat may lie in the inbox at any moment.
	eventually(t, "empty inbox", func() bool { return n.Stats().Log.InboxBytes == 0 })
	eventually(t, "checkpoint", func() bool {
		s = n.Stats()
		return s.Log.Checkpoints > 0 && s.Log.Checkpoints == s.Storage.Checkpoints && s.Log.Subscribers == 0
	})
	if s.Storage.LogBytes < records*size || s.Storage.Saves == 0 {
		t.Errorf("storage %+v", s.Storage)
	}
	if len(s.Net.Peers) != 2 {
		t.Fatalf("%d peers", len(s.Net.Peers))
	}
	for _, p := range s.Net.Peers {
		if p.Control.Sent.Frames == 0 || p.Control.Received.Frames == 0 || p.Bulk.Received.Frames == 0 {
			t.Errorf("peer %s: %+v", p.Name, p)
		}
	}
	eventually(t, "bulk to both", func() bool {
		for _, p := range n.Stats().Net.Peers {
			if p.Bulk.Sent.Bytes < records*size {
				return false
			}
		}
		return true
	})
	c.closeAll()
	if after := n.Stats(); after.Log.Appended != records {
		t.Errorf("after the end: %d appended", after.Log.Appended)
	}
}

func second(_ uint64, err error) error { return err }

func TestStatsOfASingleMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, steady)
	c.start("a")
	n, token := c.active()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := n.Append(ctx, token, number(1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if s := n.Stats().Log; s.Appended != 1 || s.CommitTime.Count != 1 || s.Won != 1 {
		t.Errorf("%+v", s)
	}
	c.stop("a")
}
