package log

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/sim"
)

func always(int) bool { return true }

// TestG8_SmallPassesLarge: a small record does not wait for all the large ones that came before it, and the large ones
// do not wait for an endless row of small ones.
func TestG8_SmallPassesLarge(t *testing.T) {
	g := gatherer{limit: 1 << 30}
	large := make([]byte, FullBatch)
	for range 10 {
		if _, _, _, err := g.add(1, large); err != nil {
			t.Fatal(err)
		}
	}
	if b := g.take(always); b.Size() < FullBatch {
		t.Fatalf("took a batch of %d bytes, want a large record's", b.Size())
	}
	for turn := range 4 {
		if _, _, _, err := g.add(1, []byte("small")); err != nil {
			t.Fatal(err)
		}
		if b := g.take(always); b.Size() >= FullBatch {
			t.Fatalf("turn %d: a large batch goes before the small one", turn)
		}
		if _, _, _, err := g.add(1, []byte("small")); err != nil {
			t.Fatal(err)
		}
		if b := g.take(always); b.Size() < FullBatch {
			t.Fatalf("turn %d: two small batches in a row while a large one waits", turn)
		}
	}
}

// TestG8_LineWithoutRoom: a line whose batch must wait does not hold the other up.
func TestG8_LineWithoutRoom(t *testing.T) {
	g := gatherer{limit: 1 << 30}
	for _, size := range []int{1, FullBatch} {
		if _, _, _, err := g.add(1, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if b := g.take(func(size int) bool { return size >= FullBatch }); b == nil || b.Size() < FullBatch {
		t.Errorf("took %v, want the large batch: there is no room for the small one", b)
	}
	if b := g.take(func(size int) bool { return size >= FullBatch }); b != nil {
		t.Errorf("took %v without room", b)
	}
}

// TestAppendersKnowTheirPlace: every appender of a batch gets the index of its own record, or the one error.
func TestAppendersKnowTheirPlace(t *testing.T) {
	g := gatherer{limit: 1 << 20}
	batches, at := make([]*Batch, 100), make([]int, 100)
	var adding sync.WaitGroup
	for i := range batches {
		adding.Go(func() { batches[i], at[i], _, _ = g.add(3, []byte{byte(i)}) })
	}
	adding.Wait()
	b := g.take(always)
	b.seal(11)
	g.settle(b, nil)
	records := appendRecords(nil, header{epoch: 3, first: 11, count: uint32(b.Count), size: batchHeader}, b.data)
	for i := range batches {
		<-batches[i].done
		if r := records[at[i]]; batches[i] != b || r.Data[0] != byte(i) || r.Index != b.First+uint64(at[i]) {
			t.Errorf("appender %d was told index %d, which is record %+v", i, b.First+uint64(at[i]), r)
		}
	}
	if g.waiting.Load() != 0 {
		t.Errorf("%d bytes wait when all is settled", g.waiting.Load())
	}
	lost, _, _, _ := g.add(3, []byte("late"))
	big, _, _, _ := g.add(3, make([]byte, largeRecord))
	if left := g.close(ErrClosed); len(left) != 2 || left[0] != lost || left[1] != big {
		t.Errorf("close leaves %d batches, want both", len(left))
	}
	if _, _, _, err := g.add(3, []byte("too late")); !errors.Is(err, ErrClosed) {
		t.Errorf("add after close: %v", err)
	}
}

// alone is a cluster of one, stepped by hand.
type alone struct {
	t    *testing.T
	core *Core
	done []Done
}

func (a *alone) step(now time.Duration, events ...Event) {
	a.t.Helper()
	for len(events) > 0 {
		eff, err := a.core.Step(now, events...)
		if err != nil {
			a.t.Fatal(err)
		}
		events = nil
		if err := a.core.Persist(eff.Writes); err != nil {
			a.t.Fatal(err)
		}
		for _, w := range eff.Writes {
			events = append(events, Written{w})
		}
		for _, p := range eff.Applies {
			events = append(events, Applied{p})
		}
		a.done = append(a.done, eff.Done...)
	}
}

// TestG4_NoProposalWithoutLease: a leader that has slept past its lease refuses what was appended before it slept, by
// the clock alone, although nothing has told it yet.
func TestG4_NoProposalWithoutLease(t *testing.T) {
	core, err := NewCore(CoreConfig{
		ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond, Seed: 1,
		Logger: slog.New(slog.DiscardHandler),
	}, sim.NewDisk(Boot([]Member{{1, "a"}})), 1<<20, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a := &alone{t: t, core: core}
	now := time.Hour
	a.step(now, Tick{})
	a.step(now, Tick{}) // the first round of heartbeats
	a.step(now, StartEpoch{ClusterID: [16]byte{1}})
	propose := func(now time.Duration) error {
		a.done = nil
		b := NewBatch(1, 10)
		b.Add([]byte("record"))
		a.step(now, Propose{b})
		if len(a.done) != 1 || a.done[0].Batch != b {
			t.Fatalf("at %v: answers %+v, want one", now, a.done)
		}
		return a.done[0].Err
	}
	if err := propose(now); err != nil {
		t.Fatalf("under the lease: %v", err)
	}
	if err := propose(now + time.Second); !errors.Is(err, ErrFenced) {
		t.Errorf("a second later, the lease being over: %v, want ErrFenced", err)
	}
	now += time.Second
	a.step(now, Tick{})
	if err := propose(now); err != nil {
		t.Errorf("under a new lease: %v", err)
	}
}

// TestGatherLargeWithoutTheLock: who appends a large record waits for no lock that the loop takes, and keeps its order.
func TestGatherLargeWithoutTheLock(t *testing.T) {
	g := gatherer{limit: 1 << 30}
	g.mu.Lock()
	var added []*Batch
	for i := range 3 {
		b, at, first, err := g.add(7, make([]byte, FullBatch+i))
		if at != 0 || !first || err != nil {
			t.Fatal(at, first, err)
		}
		added = append(added, b)
	}
	g.mu.Unlock()
	room := func(int) bool { return true }
	for i, want := range added[:2] {
		if got := g.take(room); got != want {
			t.Fatalf("batch %d of %d bytes, want %d", i, got.Size(), want.Size())
		}
	}
	if left := g.close(ErrClosed); len(left) != 1 || left[0] != added[2] {
		t.Errorf("%d batches left, want the third", len(left))
	}
	if _, _, _, err := g.add(7, make([]byte, FullBatch)); err != ErrClosed {
		t.Errorf("after close: %v", err)
	}
}
