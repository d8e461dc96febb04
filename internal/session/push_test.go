package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// writerless is a mux that has a connection and nobody but those who write to its streams: what they cannot write stays.
func writerless(t *testing.T) (m *Mux, st *Stream, peer net.Conn) {
	t.Helper()
	a, b := wires(t)
	m = still()
	m.l = NewLink(a, a)
	if m.now = NewNowWriter(m.l); m.now == nil {
		t.Skip("only where a socket can be written to without waiting")
	}
	st = newStream(context.Background(), m, "x")
	st.id, st.credit = 1, maxCredit/2
	return m, st, b
}

// Who writes needs nobody else, as long as the kernel takes it: one write for a message, whatever it has of frames.
func TestWritersWriteThemselves(t *testing.T) {
	m, st, peer := writerless(t)
	r := NewFrameReader(peer)
	for _, size := range []int{1, maxChunk, 64 << 10} {
		if _, err := st.Write(bytes.Repeat([]byte{7}, size)); err != nil {
			t.Fatal(err)
		}
		if m.busy || len(m.rest)+len(m.out) > 0 || len(m.wake) > 0 {
			t.Fatalf("%d bytes: something is left to the writer", size)
		}
		for got := 0; got < size; {
			f, err := r.Next(maxChunk)
			if err != nil || f.Kind != KindData {
				t.Fatal(f.Kind, err)
			}
			got += len(f.Body)
		}
	}
}

// What the kernel does not take is the writer's, and nobody writes past it.
func TestRestIsTheWriters(t *testing.T) {
	m, st, peer := writerless(t)
	next := uint64(0)
	put := func() { // 64 KiB of numbers
		var b []byte
		for len(b) < 64<<10 {
			b = binary.BigEndian.AppendUint64(b, next)
			next++
		}
		if n, err := st.TryWrite(b); err != nil || n < len(b) {
			t.Fatalf("%d, %v", n, err)
		}
	}
	for len(m.rest) == 0 {
		put()
	}
	if len(m.wake) != 1 {
		t.Fatal("the writer was not woken")
	}
	rest := len(m.rest)
	put() // goes behind it
	if len(m.rest) != rest || m.busy || len(m.out) < 64<<10 {
		t.Fatalf("%d bytes of the rest are left of %d, and %d are gathered", len(m.rest), rest, len(m.out))
	}
	var writer sync.WaitGroup
	writer.Go(m.write)
	eventually(t, "the writer writes", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.busy && len(m.out) == 0
	})
	put() // into other memory than what is being written
	want := next
	_ = peer.SetReadDeadline(time.Now().Add(patience))
	r := NewFrameReader(peer)
	for seen := uint64(0); seen < want; {
		f, err := r.Next(maxChunk)
		if err != nil {
			t.Fatal(err)
		}
		for b := f.Body; len(b) > 0 && seen < want; b = b[8:] {
			if n := binary.BigEndian.Uint64(b); n != seen {
				t.Fatalf("%d comes where %d should", n, seen)
			}
			seen++
		}
	}
	close(m.done)
	writer.Wait()
}

// TryWrite takes what there is credit for, and waits for nothing.
func TestTryWrite(t *testing.T) {
	read := make(chan struct{})
	e := join(t, map[string]Handler{"late": func(ctx context.Context, st *Stream) error {
		<-read
		return echo(ctx, st)
	}}, nil)
	st := open(t, e.dialler, "late")
	want := bytes.Repeat([]byte("0123456789"), 3<<10)
	n, err := st.TryWrite(want)
	if n != FirstWindow || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if n, err := st.TryWrite(want[n:]); n != 0 || err != nil {
		t.Fatalf("without credit: %d, %v", n, err)
	}
	close(read)
	go func() {
		_, _ = st.Write(want[n:])
		_ = st.CloseWrite()
	}()
	if got, err := io.ReadAll(st); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
	if _, err := st.TryWrite(want); err == nil {
		t.Errorf("behind the end: %v", err)
	}
}

// Those who write at the same time, to one connection whose other side reads slowly, lose nothing and mix up nothing.
func TestWritersBesideTheWriter(t *testing.T) {
	e := join(t, map[string]Handler{"echo": echo}, nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			st, err := e.dialler.Open(context.Background(), "echo")
			if err != nil {
				t.Error(err)
				return
			}
			defer st.Close()
			const count = 100 << 10
			all.Go(func() {
				var b []byte
				for i := range uint64(count) {
					if b = binary.BigEndian.AppendUint64(b, i); len(b) >= int(i%997)*8 {
						n, err := st.TryWrite(b)
						if err == nil {
							_, err = st.Write(b[n:])
						}
						if err != nil {
							t.Error(err)
							return
						}
						b = b[:0]
					}
				}
				_, _ = st.Write(b)
			})
			b := make([]byte, 8)
			for i := range uint64(count) {
				if _, err := io.ReadFull(st, b); err != nil || binary.BigEndian.Uint64(b) != i {
					t.Errorf("%d comes where %d should: %v", binary.BigEndian.Uint64(b), i, err)
					return
				}
			}
		})
	}
	all.Wait()
}
