package ha_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// An acked is an append that was acknowledged, and what whoever made it knows of when.
type acked struct {
	epoch           uint64
	begun, returned time.Time
}

// TestSummary_Appends hands the role over, refuses appends meanwhile, and leaves one without a fate at the end. What the members say of that is
// compared with what those know who have appended (T22).
func TestSummary_Appends(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	hold := make(chan struct{}) // OnActive returns not before it is closed
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.OnActive = func(ctx context.Context, _ fence.Token) error {
			<-ctx.Done()
			mu.Lock()
			held := hold
			mu.Unlock()
			<-held
			return nil
		}
	})
	c.startAll()
	var acks []acked
	put := func() {
		begun := time.Now()
		n, token := c.active()
		if _, err := n.Append(t.Context(), token, number(1)); err == nil {
			acks = append(acks, acked{token.Epoch, begun, time.Now()})
		}
	}
	find := func(n *ha.Node, kind ha.EventKind, epoch uint64) *ha.Event {
		for _, e := range n.Events() {
			if e.Kind == kind && e.Epoch == epoch {
				return &e
			}
		}
		return nil
	}
	const refusals = 5
	eventually(t, "a role ends and five appends are refused before the next begins", func() bool {
		put()
		n, token := c.active()
		done := make(chan error, 1)
		go func() { done <- n.Become(t.Context(), ha.Standby) }()
		refused := 0
		eventually(t, "the role ends", func() bool {
			if n.Check(token) == nil {
				select {
				case err := <-done: // nobody was there to take over
					done <- n.Become(t.Context(), ha.Standby)
					return err == nil
				default:
				}
			}
			return n.Check(token) != nil
		})
		for range refusals {
			if _, err := n.Append(t.Context(), token, number(2)); err != nil {
				refused++
			}
		}
		mu.Lock()
		close(hold)
		mu.Unlock()
		<-done
		var settled *ha.Event
		eventually(t, "it is known what has become of all appends", func() bool { settled = find(n, ha.EventSettled, token.Epoch); return settled != nil })
		mu.Lock()
		hold = make(chan struct{})
		mu.Unlock()
		put()
		return refused == refusals && settled.Summary.Refused == refusals && settled.Summary.Unknown == 0
	})
	mu.Lock()
	close(hold)
	mu.Unlock()

	eventually(t, "whoever has acknowledged last says so", func() bool {
		for _, n := range c.nodes {
			if find(n, ha.EventServing, acks[len(acks)-1].epoch) != nil {
				return true
			}
		}
		return false
	})
	served := 0
	for name, n := range c.nodes {
		for _, e := range n.Events() {
			if e.Kind != ha.EventServing || e.Peer == "" {
				continue
			}
			served++
			i := slices.IndexFunc(acks, func(a acked) bool { return a.epoch == e.Epoch })
			if i == 0 {
				continue // nobody had acknowledged one before
			}
			if i < 0 {
				t.Errorf("%s says that it has acknowledged in epoch %d, of which nobody knows: %v", name, e.Epoch, acks)
				continue
			}
			s, first, last := e.Summary, acks[i], acks[i-1]
			if s.First.Before(first.begun) || s.First.After(first.returned) {
				t.Errorf("%s: the first append of epoch %d was acknowledged at %v, and not between %v and %v", name, e.Epoch, s.First, first.begun, first.returned)
			}
			if s.Last.Before(last.begun) || s.Last.After(s.First) || s.Silence != s.First.Sub(s.Last) {
				t.Errorf("%s: the last append before epoch %d was acknowledged at %v, and not after %v; silence %v", name, e.Epoch, s.Last, last.begun, s.Silence)
			}
		}
		if r := n.Stats().Roles; r.Refused > 0 && (r.Taken == 0 || r.Refused < refusals) || r.Ended[ha.CauseAsked] > r.Taken {
			t.Errorf("%s counts %+v", name, r)
		}
	}
	if served == 0 {
		t.Error("nobody says that it has acknowledged an append after another")
	}

	n, token := c.active()
	for _, name := range c.others(n.Status().Name) {
		c.stop(name)
	}
	fate := make(chan error, 1)
	go func() {
		_, err := n.Append(context.Background(), token, number(3))
		fate <- err
	}()
	eventually(t, "the append is under way", func() bool { return n.Stats().Log.Proposed > 0 || n.Check(token) != nil })
	name := n.Status().Name
	c.stop(name)
	if err := receive(t, "the append's fate", fate); errors.Is(err, ha.ErrUnknown) {
		if s := find(n, ha.EventSettled, token.Epoch); s == nil || s.Summary.Unknown != 1 {
			t.Errorf("an append has no fate, and %v", s)
		}
	}
	c.closeAll()
	var dirs []string
	for _, m := range c.members {
		dirs = append(dirs, filepath.Join(c.dir, m.Name))
	}
	x, err := ha.Explain(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(x.Failovers, func(f ha.Failover) bool { return f.Cost.Refused == refusals && f.Cost.Silence > 0 }) {
		t.Errorf("no failover is said to have cost %d appends and some time:\n%v", refusals, x)
	}
}
