package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// Messages of any size arrive as they are where they are put together as they come, sealed and not, and also those of which something had come before.
func TestAssembled(t *testing.T) {
	t.Parallel()
	all := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(all)
	var want [][]byte
	for _, size := range []int{0, 1, 3, 5, 100, FirstWindow, 0, maxChunk, FirstPiece, FirstPiece + 1, 1 << 20, len(all), 7} {
		want = append(want, all[:size])
	}
	e := join(t, map[string]Handler{"mixed": func(_ context.Context, st *Stream) error {
		for i, msg := range want {
			var err error
			if i%2 == 0 || len(msg) == 0 {
				err = st.Send(msg)
			} else {
				err = st.SendSealed(Sealed{msg[:1], msg[1:]})
			}
			if err != nil {
				return err
			}
		}
		for range 20_000 {
			if err := st.Send(all[:9]); err != nil {
				return err
			}
		}
		return nil
	}}, nil)
	for _, late := range []bool{false, true} {
		st := open(t, e.dialler, "mixed")
		if late {
			eventually(t, "something has come", func() bool {
				st.mu.Lock()
				defer st.mu.Unlock()
				return st.in.n == FirstWindow
			})
		}
		st.Assemble(false)
		for i, msg := range want {
			if got, err := st.Recv(4 << 20); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("late %v: message %d: %d bytes of %d, %v", late, i, len(got), len(msg), err)
			}
		}
		for i := range 20_000 {
			if got, err := st.Recv(9); err != nil || !bytes.Equal(got, all[:9]) {
				t.Fatalf("late %v: small message %d: %x, %v", late, i, got, err)
			}
		}
		if _, err := st.Recv(1); err != io.EOF {
			t.Fatal(err)
		}
		st.Close()
	}
	full(t, e.dialler.c.Budget, 64<<20)
	full(t, e.budget, 64<<20)
}

// What comes for a reader who does not take it is no more than its window, of which nothing is given back before it is taken, and then all.
func TestAssembledNoMoreThanTheWindow(t *testing.T) {
	t.Parallel()
	e := join(t, map[string]Handler{"all": func(_ context.Context, st *Stream) error {
		for {
			if err := st.Send(make([]byte, 1000)); err != nil {
				return err
			}
		}
	}}, nil)
	st := open(t, e.dialler, "all")
	st.Assemble(false)
	waiting := func() (n int64) {
		st.mu.Lock()
		defer st.mu.Unlock()
		for _, m := range append(st.asm.whole, st.asm.next) {
			n += int64(m.owes)
		}
		return n
	}
	eventually(t, "the first window is full", func() bool { return waiting() == FirstWindow })
	for taken, window := 0, int64(0); taken < 4<<20 || window < 1<<20; { // on a busy machine it grows late
		msg, err := st.Recv(1000)
		if err != nil {
			t.Fatal(err)
		}
		taken += prefixSize + len(msg)
		st.mu.Lock()
		window = st.window
		if ahead := int64(e.dialler.c.Counts.Received.Load()) - int64(taken); ahead > window {
			t.Errorf("%d bytes have come that nobody has taken, of a window of %d", ahead, window)
			taken = 4 << 20
		}
		st.mu.Unlock()
	}
	eventually(t, "the window is full again", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.allow == 0 && st.window == 1<<20
	})
	st.Close()
	full(t, e.dialler.c.Budget, 64<<20)
}

// A message that is too large is said to be when those before it were read, whether it is waited for or not, and is not gathered.
func TestAssembledTooLarge(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		e := join(t, map[string]Handler{"large": func(_ context.Context, st *Stream) error {
			if !waits {
				_ = st.Send([]byte("before"))
			}
			return st.Send(make([]byte, 2<<20))
		}}, nil)
		st := open(t, e.dialler, "large")
		st.Assemble(false)
		if !waits {
			if msg, err := st.Recv(100); string(msg) != "before" {
				t.Fatal(msg, err)
			}
		}
		if _, err := st.Recv(1 << 20); !errors.Is(err, &StreamError{Code: StreamTooLarge}) {
			t.Errorf("waits %v: %v", waits, err)
		}
		if n := e.dialler.c.Counts.Received.Load(); n > 2*FirstWindow {
			t.Errorf("waits %v: %d bytes were taken", waits, n)
		}
		full(t, e.dialler.c.Budget, 64<<20)
	}
}

// However a stream ends, the messages that have come whole are read first, and none that has not.
func TestAssembledEnds(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	for name, c := range map[string]struct {
		part int // bytes of another message behind them
		end  func(e ends, st *Stream) error
		want func(error) bool
	}{
		"in peace":  {0, func(ends, *Stream) error { return nil }, func(err error) bool { return err == io.EOF }},
		"cut":       {7, func(ends, *Stream) error { return nil }, func(err error) bool { return err == io.ErrUnexpectedEOF }},
		"in a head": {2, func(ends, *Stream) error { return nil }, func(err error) bool { return err == io.ErrUnexpectedEOF }},
		"reset":     {7, func(ends, *Stream) error { return cut }, func(err error) bool { return errors.Is(err, &StreamError{Code: StreamFailed}) }},
		"lost": {7, func(e ends, st *Stream) error {
			e.listener.end(cut)
			return nil
		}, func(err error) bool { return errors.Is(err, ErrLost) }},
	} {
		took := make(chan struct{})
		var e ends
		e = join(t, map[string]Handler{"some": func(_ context.Context, st *Stream) error {
			for range 10 {
				_ = st.Send([]byte("whole"))
			}
			_, _ = st.Write([]byte{0, 0, 0, 100, 1, 2, 3}[:c.part])
			<-took
			return c.end(e, st)
		}}, nil)
		st := open(t, e.dialler, "some")
		st.Assemble(false)
		eventually(t, "all has come", func() bool { return e.dialler.c.Counts.Received.Load() == uint64(90+c.part) })
		close(took)
		<-st.Context().Done()
		for i := range 10 {
			if msg, err := st.Recv(100); string(msg) != "whole" {
				t.Errorf("%s: message %d: %q, %v", name, i, msg, err)
			}
		}
		if _, err := st.Recv(100); !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		full(t, e.dialler.c.Budget, 64<<20)
	}
}

// Memory of messages that are lent is used again, and not while one is looked at; what is too small or too large for that has its own.
func TestAssembledLent(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{
		0: -1, 1: -1, FirstPiece / 16: -1, FirstPiece/16 + 1: 3, FirstPiece / 2: 1, FirstPiece/2 + 1: 0, FirstPiece: 0, FirstPiece + 1: -1,
	} {
		if got := classOf(n); got != want {
			t.Errorf("%d bytes go into class %d, should be %d", n, got, want)
		}
	}
	const rounds = 300
	sizes := []int{FirstPiece, 0, FirstPiece/2 + 1, 5000, 3, FirstPiece / 3, FirstPiece + 1, 200 << 10}
	message := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)]) }
	e := join(t, map[string]Handler{"mixed": func(_ context.Context, st *Stream) error {
		for i := range rounds * len(sizes) {
			msg := message(i)
			var err error
			if i/len(sizes)%2 == 0 || len(msg) == 0 {
				err = st.Send(msg)
			} else {
				err = st.SendSealed(Sealed{msg[:1], msg[1:]})
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}, nil)
	st := open(t, e.dialler, "mixed")
	st.Assemble(true)
	memory := map[*byte]bool{} // of the largest that is lent
	for i := range rounds * len(sizes) {
		got, err := st.Recv(4 << 20)
		if err != nil || !bytes.Equal(got, message(i)) {
			t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
		}
		if len(got) == FirstPiece {
			memory[&got[0]] = true
		}
	}
	if len(memory) > rounds/2 {
		t.Errorf("%d messages took %d pieces of memory", rounds, len(memory))
	}
	if _, err := st.Recv(1); err != io.EOF {
		t.Fatal(err)
	}
	full(t, e.dialler.c.Budget, 64<<20)
}
