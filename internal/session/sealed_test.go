package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// Sealed messages arrive as they are, whoever else uses the session: where they go from where they are, and where they are copied.
func TestSealed(t *testing.T) {
	t.Parallel()
	want := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want)
	msgs := []Sealed{{want[:1], nil}, {want[:29], want[:1]}, {want[:5], want[:65<<10]}, {want[:40<<10], want[:100]}, {want[:29], want}, {want[:2], want[:16<<10]}}
	for _, copied := range []bool{false, true} {
		t.Run(fmt.Sprintf("copied=%v", copied), func(t *testing.T) {
			e := join(t, map[string]Handler{"echo": echo, "tail": func(_ context.Context, st *Stream) error {
				for range 3 {
					if err := st.SendSealed(msgs...); err != nil {
						return err
					}
				}
				return nil
			}}, nil)
			if copied {
				e.listener.mu.Lock()
				e.listener.now = nil // as with TLS
				e.listener.mu.Unlock()
			}
			beside := open(t, e.dialler, "echo")
			go func() {
				for beside.Send(want[:10<<10]) == nil {
				}
			}()
			go func() { _, _ = io.Copy(io.Discard, beside) }()
			st := open(t, e.dialler, "tail")
			for range 3 {
				for i, m := range msgs {
					got, err := st.Recv(4 << 20)
					if err != nil || !bytes.Equal(got, append(bytes.Clone(m.Head), m.Body...)) {
						t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
					}
				}
			}
			if _, err := st.Recv(1); err != io.EOF {
				t.Fatalf("after the end: %v", err)
			}
			beside.Close()
			full(t, e.dialler.c.Budget, 64<<20)
		})
	}
}

// A stream that ends while a sealed frame comes for it takes nothing any more, and the others go on.
func TestSealedForNobody(t *testing.T) {
	t.Parallel()
	body := make([]byte, 200<<10)
	e := join(t, map[string]Handler{"echo": echo, "tail": func(_ context.Context, st *Stream) error {
		for {
			if err := st.SendSealed(Sealed{[]byte("head"), body}); err != nil {
				return err
			}
		}
	}}, nil)
	for i := range 20 {
		st := open(t, e.dialler, "tail")
		for range i % 4 {
			if _, err := st.Recv(1 << 20); err != nil {
				t.Fatal(err)
			}
		}
		st.Close()
		again := open(t, e.dialler, "echo")
		if err := again.Send([]byte("still there")); err != nil {
			t.Fatal(err)
		}
		if got, err := again.Recv(100); string(got) != "still there" {
			t.Fatalf("%q, %v", got, err)
		}
		again.Close()
	}
	full(t, e.dialler.c.Budget, 64<<20)
	full(t, e.budget, 64<<20)
}

// Where nobody else writes nothing is copied and nothing left to the writer, and what has a checksum of its own gets no other.
func TestSealedFromWhereItIs(t *testing.T) {
	m, st, peer := writerless(t)
	body := bytes.Repeat([]byte{7}, 30<<10)
	if err := st.SendSealed(Sealed{[]byte("head"), body}); err != nil {
		t.Fatal(err)
	}
	if m.busy || len(m.rest)+len(m.out) > 0 || len(m.wake) > 0 || cap(m.out) > len(body) {
		t.Fatal("something is left to the writer")
	}
	r := NewFrameReader(peer)
	if f, err := r.Next(maxChunk); err != nil || f.Kind != KindData || string(f.Body[prefixSize:]) != "head" {
		t.Fatal(f.Kind, f.Body, err)
	}
	f, err := r.Next(maxChunk)
	if err != nil || f.Kind != KindSealed || f.Sealed != len(body) || f.ID != st.id {
		t.Fatal(f, err)
	}
	if st.Sent() != uint64(prefixSize+4+len(body)) {
		t.Errorf("%d bytes were sent", st.Sent())
	}
}
