package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// TestTailsShareBeats: several tails are told of many commits at a time (the planted bug "beat-of-one" tells them of each), and of the last ones although nothing
// follows (the planted bug "beat-forgotten" wakes nobody). What is gathered at most is bounded by the time that it took, whatever that is.
func TestTailsShareBeats(t *testing.T) {
	t.Parallel()
	const (
		tails, count = 11, 800
		beat         = 5 * time.Millisecond // of so many tails
	)
	c := newCluster(t, 1, nil)
	c.active()
	m := stranger(t, c.addr("a"), session.RoleClient)
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	begin := time.Now()
	var all sync.WaitGroup
	var messages [tails]int
	for i := range messages {
		all.Go(func() {
			st, err := m.Open(ctx, wire.KindTail)
			if err != nil {
				t.Error(err)
				return
			}
			defer st.Close()
			if err := st.Send(wire.TailRequest(1, true, 1)); err != nil {
				t.Error(err)
				return
			}
			for next := uint64(1); next <= count; messages[i]++ {
				b, err := st.Recv(1 << 20)
				if err != nil {
					t.Errorf("tail %d, before record %d: %v", i, next, err)
					return
				}
				said, err := wire.ParseTail(b, nil)
				if err != nil || said.First != next {
					t.Errorf("tail %d: record %d comes where %d should, %v", i, said.First, next, err)
					return
				}
				next += uint64(len(said.Records))
			}
		})
	}
	for i := range uint64(count) {
		c.put(number(i + 1))
	}
	all.Wait()
	took := time.Since(begin)
	for i, n := range messages {
		if most := 20 + 2*int(took/beat); n > most {
			t.Errorf("tail %d was sent %d messages in %v, should be at most %d", i, n, took, most)
		}
	}
	t.Logf("%d records, one after the other, in %v: %v messages", count, took, messages)
}
