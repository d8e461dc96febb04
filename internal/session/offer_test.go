package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
)

// TestAwait: what is taken at once and what is read are together what was written, in its order, far beyond the window, whichever pieces it comes in.
func TestAwait(t *testing.T) {
	var got []byte
	taken, done := 0, make(chan error, 1)
	e := join(t, map[string]Handler{"take": func(_ context.Context, st *Stream) error {
		buf := make([]byte, 100)
		for {
			st.Await(func(b []byte) int {
				n := min(len(b), len(b)*(len(got)%5)/3) // all, a part, or nothing
				got, taken = append(got, b[:n]...), taken+n
				return n
			})
			n, err := st.Read(buf)
			if got = append(got, buf[:n]...); err != nil {
				done <- err
				return nil
			}
		}
	}}, nil)
	want := make([]byte, 500_000)
	for i := range want {
		want[i] = byte(i * i >> 3)
	}
	st := open(t, e.dialler, "take")
	for rest := want; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(3000))
		if _, err := st.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	_ = st.CloseWrite()
	if err := <-done; err != io.EOF || !bytes.Equal(got, want) {
		t.Fatalf("%v after %d bytes of %d, the same: %t", err, len(got), len(want), bytes.HasPrefix(want, got))
	}
	if taken == 0 || taken == len(want) {
		t.Errorf("%d of %d bytes were taken at once", taken, len(want))
	}
}

// TestAwaitEnds: who awaits something is told of the end, however it comes.
func TestAwaitEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(e ends, st *Stream)
		is   error
	}{
		{"in peace", func(_ ends, st *Stream) { _ = st.CloseWrite() }, io.EOF},
		{"reset", func(_ ends, st *Stream) { st.Reset(FirstOwnCode, "enough") }, &StreamError{Code: FirstOwnCode, Text: "enough"}},
		{"the session's", func(e ends, _ *Stream) { _ = e.dialler.Close() }, &StreamError{Code: StreamClosed, Text: "the session is closed"}},
		{"by itself, while something is taken", func(_ ends, st *Stream) { _, _ = st.Write([]byte("it")) }, errStreamLocal},
		{"a panic", func(_ ends, st *Stream) { _, _ = st.Write([]byte("panic")) }, &StreamError{Code: StreamFailed, Text: "what served it has panicked"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			served, done := make(chan *Stream, 1), make(chan error, 1)
			e := join(t, map[string]Handler{"take": func(_ context.Context, st *Stream) error {
				served <- st
				st.Await(func(b []byte) int {
					if string(b) == "panic" {
						panic(c.name)
					}
					_ = st.Close()
					return len(b)
				})
				_, err := st.Read(make([]byte, 1))
				done <- err
				return nil
			}}, func(c *StreamConfig) { c.Logger = slog.New(slog.DiscardHandler) })
			st := open(t, e.dialler, "take")
			there := <-served
			eventually(t, "it awaits", func() bool { there.mu.Lock(); defer there.mu.Unlock(); return there.taker != nil })
			c.end(e, st)
			err := <-done
			var got, want *StreamError
			if !errors.Is(err, c.is) && !(errors.As(err, &got) && errors.As(c.is, &want) && got.Code == want.Code && got.Text == want.Text) {
				t.Errorf("the end is %v, should be %v", err, c.is)
			}
		})
	}
}
