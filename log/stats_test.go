package log

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

func TestStatsOfOutcomes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want func(Stats) uint64
	}{
		{ErrFenced, func(s Stats) uint64 { return s.Fenced }},
		{fmt.Errorf("%w: so", ErrNotActive), func(s Stats) uint64 { return s.Fenced }},
		{ErrBusy, func(s Stats) uint64 { return s.Busy }},
		{fmt.Errorf("%w: full", ErrNoRoom), func(s Stats) uint64 { return s.NoRoom }},
		{ErrTooLarge, func(s Stats) uint64 { return s.Failed }},
		{context.Canceled, func(s Stats) uint64 { return s.Failed }},
		{ErrClosed, func(s Stats) uint64 { return s.Failed }},
		{fmt.Errorf("%w: %w", ErrUnknown, ErrClosed), func(s Stats) uint64 { return s.Unknown }},
		{fmt.Errorf("%w: %w", ErrUnknown, ErrFenced), func(s Stats) uint64 { return s.Unknown }},
	} {
		l := &Log{driver: driver{store: new(Store)}}
		l.writes, l.applies, l.fetches = newQueue[*core.Write](), newQueue[*core.Apply](), newQueue[*core.Fetch]()
		l.counts.outcome(c.err)
		s := l.Stats()
		if all := s.Fenced + s.Busy + s.NoRoom + s.Failed + s.Unknown; c.want(s) != 1 || all != 1 {
			t.Errorf("%v: %d, %d in all", c.err, c.want(s), all)
		}
	}
}

// A batch is counted when it is proposed and when its fate is known, once each, whoever tells it.
func TestStatsOfBatches(t *testing.T) {
	g := gatherer{limit: 1 << 20}
	for range 3 {
		if _, _, _, err := g.add(1, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	all := func(int) bool { return true }
	b := g.take(all)
	if n := g.counts.proposed.Load(); n != 1 {
		t.Errorf("%d are under way", n)
	}
	b.Settle(nil)
	b.Settle(errors.New("too late"))
	if records, bytes := g.counts.records.Snapshot(), g.counts.bytes.Snapshot(); records.Count != 1 || records.Sum != 3 || bytes.Sum < 300 {
		t.Errorf("%d records, %d bytes", records.Sum, bytes.Sum)
	}
	if took := g.counts.time.Snapshot(); took.Count != 1 || took.Sum <= 0 || took.Max > int64(time.Minute) {
		t.Errorf("took %d", took.Sum)
	}
	if _, _, _, err := g.add(1, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for _, b := range g.close(ErrClosed) {
		b.Settle(ErrClosed)
	}
	if a, p, w := g.counts.appended.Load(), g.counts.proposed.Load(), g.waiting.Load(); a != 3 || p != 0 || w != 0 {
		t.Errorf("%d appended, %d under way, %d bytes waiting", a, p, w)
	}
}

func TestStatsOfLeadership(t *testing.T) {
	var c counts
	for _, ch := range []core.Change{
		core.Leadership{Leader: 2, Term: 3}, core.Leadership{Term: 3}, core.Leadership{Leader: 2, Term: 3},
		core.Leadership{Leader: 1, Term: 4, Leading: true}, core.EpochStarted{},
		core.Lease{Until: 5}, core.Lease{Until: 7}, core.Lease{}, core.Lease{Until: 6},
	} {
		c.stepped(core.Effects{Changes: []core.Change{ch}})
	}
	if e, w, p, r := c.elections.Load(), c.won.Load(), c.epochs.Load(), c.renewals.Load(); e != 2 || w != 1 || p != 1 || r != 3 {
		t.Errorf("elections %d, won %d, epochs %d, renewals %d", e, w, p, r)
	}
}

// BenchmarkCounting is all that is counted of one batch, from its first record to its end.
func BenchmarkCounting(b *testing.B) {
	var c counts
	g := &gatherer{limit: 1 << 30}
	p := g.newPending(1, 256)
	eff := core.Effects{
		Changes: []core.Change{core.Lease{Until: 1}},
		Applies: []*core.Apply{{Batches: []*core.Batch{&p.Batch}}},
	}
	for b.Loop() {
		p.began = time.Now()
		g.counts.took(p)
		c.stepped(eff)
		c.applyTime.Observe(int64(time.Since(p.began)))
		g.counts.settled(p, nil)
	}
}
