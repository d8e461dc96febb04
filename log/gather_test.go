package log

import (
	"errors"
	"sync"
	"testing"

	"github.com/baton-ha/baton/internal/core"
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
	batches, at := make([]*pending, 100), make([]int, 100)
	var adding sync.WaitGroup
	for i := range batches {
		adding.Go(func() { batches[i], at[i], _, _ = g.add(3, []byte{byte(i)}) })
	}
	adding.Wait()
	b := g.take(always)
	data := b.Seal(11)
	b.Settle(nil)
	h, err := core.ParseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	records := core.AppendRecords(nil, h, data)
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

// TestGatherLargeWithoutTheLock: who appends a large record waits for no lock that the loop takes, and keeps its order.
func TestGatherLargeWithoutTheLock(t *testing.T) {
	g := gatherer{limit: 1 << 30}
	g.mu.Lock()
	var added []*pending
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
