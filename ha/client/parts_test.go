package client_test

import (
	"bytes"
	"context"
	"io"
	"iter"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// keeper is a state machine that writes to what it was given once it is told to.
type keeper struct {
	mu   sync.Mutex // guards kept
	kept []ha.Entry
}

func (k *keeper) Apply(entries []ha.Entry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, entries...)
	return nil
}
func (k *keeper) Snapshot() (io.WriterTo, error) { return bytes.NewReader(nil), nil }
func (k *keeper) Restore(io.Reader) error        { return nil }

func (k *keeper) scribble(index uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.kept {
		if e.Index == index {
			e.Data[len(e.Data)/2] ^= 1
		}
	}
}

// TestBorrow: a record that is borrowed stays what it is until the next one is asked for, whatever other tails of the client read
// meanwhile (the planted bug "lent-twice" gives its memory away before).
func TestBorrow(t *testing.T) {
	t.Parallel()
	const count = 12
	c := newCluster(t, 1, nil)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	record := func(i uint64) []byte { return bytes.Repeat([]byte{byte(i)}, 60<<10-int(i)) }
	c.put(record(1))
	for e, err := range cl.Borrow(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
		last := c.put(record(e.Index + 1))
		for other, err := range cl.Borrow(ctx, 1) {
			if err != nil || !bytes.Equal(other.Data, record(other.Index)) {
				t.Fatalf("record %d is not what was appended; %v", other.Index, err)
			}
			if other.Index == last {
				break
			}
		}
		if !bytes.Equal(e.Data, record(e.Index)) {
			t.Fatalf("record %d was written to while it was borrowed", e.Index)
		}
		if e.Index == count {
			return
		}
	}
}

// TestLargeBatches: large batches, which go from the member's memory to the socket, arrive as small ones do, which are put together, from any record on, and also
// where something in that memory is not what was appended (the planted bugs "part-unverified" and "small-unverified" do not look).
func TestLargeBatches(t *testing.T) {
	t.Parallel()
	sm := new(keeper)
	c := newCluster(t, 1, func(cfg *ha.Config) { cfg.StateMachine = sm })
	var want [][]byte
	put := func(sizes ...int) {
		var records [][]byte
		for i, size := range sizes {
			records = append(records, bytes.Repeat([]byte{byte(len(want) + i + 1)}, size))
		}
		want = append(want, records...)
		c.put(records...)
	}
	put(10)
	put(30<<10, 1, 20<<10, 70<<10, 0, 5)
	put(20, 20)
	put(300 << 10)
	put(16<<10, 16<<10)
	put(1)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := func(from int) {
		t.Helper()
		for _, records := range []iter.Seq2[client.Entry, error]{cl.Subscribe(ctx, uint64(from)), cl.Borrow(ctx, uint64(from))} {
			next := from
			for e, err := range records {
				if err != nil || e.Index != uint64(next) || !bytes.Equal(e.Data, want[next-1]) {
					t.Fatalf("from %d: record %d of %d bytes comes where %d should, or is not what was appended; %v", from, e.Index, len(e.Data), next, err)
				}
				if next++; next > len(want) {
					break
				}
			}
		}
	}
	for from := range want {
		look(from + 1)
	}
	sm.scribble(1)
	sm.scribble(4)
	sm.scribble(10)
	look(3)
	look(1)

	// One of an earlier version does not understand parts.
	m := stranger(t, c.addr("a"), session.RoleClient)
	for first, request := range map[byte][]byte{2: wire.TailRequest(2, true, 1)[:9], 4: wire.TailRequest(2, true, 1)} {
		st := open(t, m, wire.KindTail)
		if err := st.Send(request); err != nil {
			t.Fatal(err)
		}
		if b, err := st.Recv(1 << 20); err != nil || b[0] != first {
			t.Errorf("a message of kind %d comes where %d should, %v", b[0], first, err)
		}
	}
}
