package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/parallel"
)

func TestMain(m *testing.M) { parallel.Main(m, 8) }

const patience = 20 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// wires returns both ends of a TCP connection.
func wires(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// kinds accepts streams by their kind.
func kinds(table map[string]Handler) func(string) (Handler, *StreamError) {
	return func(kind string) (Handler, *StreamError) {
		if h := table[kind]; h != nil {
			return h, nil
		}
		return nil, &StreamError{Code: StreamNoKind}
	}
}

func echo(_ context.Context, st *Stream) error {
	_, err := io.Copy(st, struct{ io.Reader }{st})
	return err
}

type ends struct {
	dialler, listener *Mux
	budget            *Budget // of the listener
}

// join starts a session over a connection.
func join(t testing.TB, table map[string]Handler, change func(c *StreamConfig)) ends {
	t.Helper()
	a, b := wires(t)
	e := ends{budget: NewBudget(64 << 20)}
	c := StreamConfig{Budget: e.budget, Accept: kinds(table)}
	if change != nil {
		change(&c)
		e.budget = c.Budget
	}
	e.listener = NewMux(NewLink(b, b), false, c)
	e.dialler = NewMux(NewLink(a, a), true, StreamConfig{Budget: NewBudget(64 << 20)})
	t.Cleanup(func() { e.dialler.Close(); e.listener.Close() })
	return e
}

func open(t testing.TB, m *Mux, kind string) *Stream {
	t.Helper()
	st, err := m.Open(context.Background(), kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func TestStreamBytesAndMessages(t *testing.T) {
	t.Parallel()
	e := join(t, map[string]Handler{"echo": echo}, nil)
	st := open(t, e.dialler, "echo")
	want := make([]byte, 5<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(want)
	go func() {
		for at := 0; at < len(want); {
			n := min(1+rand.IntN(200<<10), len(want)-at)
			if _, err := st.Write(want[at : at+n]); err != nil {
				t.Error(err)
			}
			at += n
		}
		st.CloseWrite()
	}()
	got, err := io.ReadAll(st)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(want), err)
	}
	st = open(t, e.dialler, "echo")
	for _, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 3 << 20} {
		sent := make(chan error, 1)
		go func() { sent <- st.Send(want[:size]) }()
		if got, err := st.Recv(3 << 20); err != nil || !bytes.Equal(got, want[:size]) {
			t.Fatalf("message of %d bytes: %d, %v", size, len(got), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	st.CloseWrite()
	if _, err := st.Recv(1); err != io.EOF {
		t.Fatalf("after the end: %v", err)
	}
	if err := st.Send(nil); !errors.Is(err, errStreamShut) {
		t.Fatalf("write behind the end: %v", err)
	}
	eventually(t, "no streams", func() bool { return e.dialler.Streams()+e.listener.Streams() == 0 })
}

func BenchmarkStream(b *testing.B) {
	for _, size := range []int{128, 16 << 10} {
		b.Run(fmt.Sprintf("write=%d", size), func(b *testing.B) {
			e := join(b, map[string]Handler{"tail": func(_ context.Context, st *Stream) error {
				p := make([]byte, size)
				for {
					if _, err := st.Write(p); err != nil {
						return err
					}
				}
			}}, nil)
			st := open(b, e.dialler, "tail")
			p := make([]byte, 64<<10)
			b.SetBytes(int64(size))
			b.ResetTimer()
			left := b.N * size
			for left > 0 {
				n, err := st.Read(p)
				if err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		})
	}
	b.Run("message=128", func(b *testing.B) {
		e := join(b, map[string]Handler{"tail": func(_ context.Context, st *Stream) error {
			p := make([]byte, 128)
			for {
				if err := st.Send(p); err != nil {
					return err
				}
			}
		}}, nil)
		st := open(b, e.dialler, "tail")
		for b.Loop() {
			if _, err := st.Recv(128); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("call=128/callers=%d", callers), func(b *testing.B) {
			e := join(b, map[string]Handler{"call": func(_ context.Context, st *Stream) error {
				p, err := st.Recv(1 << 10)
				if err != nil {
					return err
				}
				return st.Send(p)
			}}, nil)
			p := make([]byte, 128)
			var wg sync.WaitGroup
			n := b.N/callers + 1
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for range n {
						st, err := e.dialler.Open(context.Background(), "call")
						if err == nil {
							err = st.Send(p)
							st.CloseWrite()
						}
						if err == nil {
							_, err = st.Recv(128)
						}
						if err != nil {
							b.Error(err)
							return
						}
						st.Close()
					}
				})
			}
			wg.Wait()
		})
	}
	b.Run("tcp=16384", func(b *testing.B) {
		x, y := wires(b)
		go func() {
			p := make([]byte, 16<<10)
			for {
				if _, err := y.Write(p); err != nil {
					return
				}
			}
		}()
		p := make([]byte, 64<<10)
		b.SetBytes(16 << 10)
		b.ResetTimer()
		left := b.N * 16 << 10
		for left > 0 {
			n, err := x.Read(p)
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	})
}
