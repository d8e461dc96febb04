package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// full checks that a budget has all that it began with.
func full(t testing.TB, b *Budget, want int64) {
	t.Helper()
	eventually(t, "nothing of the budget is held", func() bool { return b.left.Load() == want })
}

// A stream that nobody reads stops itself, at the first window, and no other; what it holds comes back.
func TestG8_SlowReaderStopsOnlyItself(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	e := join(t, map[string]Handler{
		"echo":  echo,
		"never": func(ctx context.Context, st *Stream) error { <-stop; return nil },
	}, nil)
	slow := open(t, e.dialler, "never")
	wrote := make(chan int, 1)
	go func() {
		n, _ := slow.Write(make([]byte, 4<<20))
		wrote <- n
	}()
	for range 20 {
		st := open(t, e.dialler, "echo")
		go func() { _, _ = st.Write(make([]byte, 300<<10)); st.CloseWrite() }()
		if n, err := io.Copy(io.Discard, st); n != 300<<10 || err != nil {
			t.Fatalf("beside a slow reader: %d bytes, %v", n, err)
		}
		st.Close()
	}
	select {
	case n := <-wrote:
		t.Fatalf("%d bytes were written to somebody who does not read", n)
	default:
	}
	full(t, e.budget, 64<<20-FirstWindow) // what a stream holds that was never read; the handlers of the others may be about to end
	close(stop)
	if n := <-wrote; n > FirstWindow {
		t.Errorf("%d bytes were sent into a window of %d", n, FirstWindow)
	}
	slow.Close()
	full(t, e.budget, 64<<20)
	full(t, e.dialler.c.Budget, 64<<20)
}

// A window grows as it is read, as far as the budget goes.
func TestWindowGrows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ budget, want int64 }{{64 << 20, 1 << 20}, {100 << 10, 64 << 10}, {FirstWindow, FirstWindow}} {
		stop := make(chan struct{})
		e := join(t, map[string]Handler{"part": func(_ context.Context, st *Stream) error {
			if _, err := io.CopyN(io.Discard, st, 4<<20); err != nil {
				return err
			}
			<-stop // and reads no more
			return nil
		}}, func(sc *StreamConfig) { sc.Budget, sc.Ping = NewBudget(c.budget), patience }) // so that what is read is read soon, however busy the machine is
		st := open(t, e.dialler, "part")
		done := make(chan int, 1)
		go func() { n, _ := st.Write(make([]byte, 32<<20)); done <- n }()
		eventually(t, "window is as large as may be", func() bool { return c.budget-e.budget.left.Load() == c.want })
		close(stop)
		if n := <-done; int64(n) > 4<<20+c.want {
			t.Errorf("budget %d: %d bytes were written, of which 4 MiB were read", c.budget, n)
		}
		st.Close()
		full(t, e.budget, c.budget)
	}
}

// Whoever opens more than there may be is told so, stream by stream, and the session goes on.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*StreamConfig){
		"by number": func(c *StreamConfig) { c.MaxStreams = 100 },
		"by bytes":  func(c *StreamConfig) { c.Budget = NewBudget(100 * FirstWindow) },
	} {
		stop := make(chan struct{})
		e := join(t, map[string]Handler{"hold": func(ctx context.Context, st *Stream) error { <-stop; return nil }}, change)
		e.dialler.c.MaxStreams = 1 << 20
		before := e.budget.left.Load()
		var all []*Stream
		for range 3000 {
			all = append(all, open(t, e.dialler, "hold"))
		}
		busy := 0
		for i, st := range all {
			if i < 100 {
				continue
			}
			if _, err := st.Read(make([]byte, 1)); !errors.Is(err, &StreamError{Code: StreamBusy}) {
				t.Fatalf("%s: stream %d: %v", what, i, err)
			}
			busy++
		}
		if busy != 2900 || e.listener.Streams() != 100 {
			t.Errorf("%s: %d refused, %d left", what, busy, e.listener.Streams())
		}
		close(stop)
		for _, st := range all {
			st.Close()
		}
		eventually(t, "all have ended", func() bool { return e.listener.Streams() == 0 && e.dialler.Streams() == 0 })
		full(t, e.budget, before)
	}
}

// The dialler's own bound: it is told at once.
func TestOpenIsRefusedLocally(t *testing.T) {
	t.Parallel()
	e := join(t, map[string]Handler{"echo": echo}, nil)
	e.dialler.c.MaxStreams = 1
	open(t, e.dialler, "echo")
	ctx, cancel := context.WithCancelCause(context.Background())
	if _, err := e.dialler.Open(ctx, "echo"); !errors.Is(err, &StreamError{Code: StreamBusy}) {
		t.Errorf("second stream of one: %v", err)
	}
	over := errors.New("over")
	cancel(over)
	if _, err := e.dialler.Open(ctx, "echo"); !errors.Is(err, over) {
		t.Errorf("ctx that is over: %v", err)
	}
	for _, kind := range []string{"", "with space", strings.Repeat("x", maxKind+1), "ünicode"} {
		if _, err := e.dialler.Open(context.Background(), kind); err == nil {
			t.Errorf("kind %q was opened", kind)
		}
	}
	if _, err := e.listener.Open(context.Background(), "echo"); err == nil {
		t.Error("the listener opened a stream")
	}
	if got := 64<<20 - e.dialler.c.Budget.left.Load(); got != FirstWindow {
		t.Errorf("what was refused holds %d bytes", got-FirstWindow)
	}
}

// The end of the opener's ctx ends a stream in every state, on both sides, with its meaning.
func TestCancelInEveryState(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	states := map[string]func(st *Stream) error{
		"just opened":  func(st *Stream) error { <-st.Context().Done(); _, err := st.Read(make([]byte, 1)); return err },
		"reading":      func(st *Stream) error { _, err := st.Read(make([]byte, 1)); return err },
		"receiving":    func(st *Stream) error { _, err := st.Recv(10); return err },
		"window empty": func(st *Stream) error { _, err := st.Write(make([]byte, 1<<20)); return err },
		"half closed":  func(st *Stream) error { st.CloseWrite(); _, err := st.Read(make([]byte, 1)); return err },
		"in a message": func(st *Stream) error { return st.Send(make([]byte, 1<<20)) },
	}
	for name, wait := range states {
		for _, deadline := range []bool{false, true} {
			seen := make(chan error, 1)
			e := join(t, map[string]Handler{"hang": func(ctx context.Context, st *Stream) error {
				<-ctx.Done()
				seen <- context.Cause(ctx)
				return ctx.Err()
			}}, nil)
			ctx, cancel := context.WithCancelCause(context.Background())
			want, code := boom, StreamCancelled
			if deadline {
				dctx, dcancel := context.WithTimeout(ctx, 30*time.Millisecond)
				defer dcancel()
				ctx, want, code = dctx, context.DeadlineExceeded, StreamDeadline
			} else {
				time.AfterFunc(20*time.Millisecond, func() { cancel(boom) })
			}
			st, err := e.dialler.Open(ctx, "hang")
			if err != nil {
				t.Fatal(err)
			}
			if err := wait(st); !errors.Is(err, want) {
				t.Errorf("%s: %v, should be %v", name, err, want)
			}
			var told *StreamError
			if err := <-seen; !errors.As(err, &told) || told.Code != code || !told.Remote {
				t.Errorf("%s: the handler's ctx ended with %v", name, err)
			}
			eventually(t, "no streams", func() bool { return e.dialler.Streams()+e.listener.Streams() == 0 })
			full(t, e.budget, 64<<20)
			full(t, e.dialler.c.Budget, 64<<20)
			cancel(nil)
		}
	}
}

// How a handler ends is what the opener reads, behind all that it has written.
func TestHandlersEndCrossesTheWire(t *testing.T) {
	t.Parallel()
	own := FirstOwnCode + 7
	for name, c := range map[string]struct {
		h    Handler
		code StreamCode // 0: io.EOF
		text string
	}{
		"nil": {func(context.Context, *Stream) error { return nil }, 0, ""},
		"coded": {func(context.Context, *Stream) error {
			return fmt.Errorf("x: %w", &StreamError{Code: own, Text: "gone"})
		}, own, "gone"},
		"plain":     {func(context.Context, *Stream) error { return errors.New("disk on fire") }, StreamFailed, "disk on fire"},
		"panic":     {func(context.Context, *Stream) error { panic("secret") }, StreamFailed, "panicked"},
		"goexit":    {func(context.Context, *Stream) error { runtime.Goexit(); return nil }, StreamFailed, "ended its goroutine"},
		"reset":     {func(_ context.Context, st *Stream) error { st.Reset(own, "reset"); return nil }, own, "reset"},
		"long text": {func(context.Context, *Stream) error { return errors.New(strings.Repeat("é", 5000)) }, StreamFailed, "éé"},
	} {
		e := join(t, map[string]Handler{"x": func(ctx context.Context, st *Stream) error {
			if _, err := st.Write([]byte("before")); err != nil {
				t.Error(err)
			}
			return c.h(ctx, st)
		}}, nil)
		st := open(t, e.dialler, "x")
		<-st.Context().Done()
		got, err := io.ReadAll(st)
		if string(got) != "before" {
			t.Errorf("%s: read %q before the end", name, got)
		}
		var told *StreamError
		switch {
		case c.code == 0 && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.code != 0 && (!errors.As(err, &told) || told.Code != c.code || !told.Remote || !strings.Contains(told.Text, c.text)):
			t.Errorf("%s: %v", name, err)
		case c.code != 0 && (strings.Contains(told.Text, "secret") || len(told.Text) > maxStreamText+3):
			t.Errorf("%s: the text is %q", name, told.Text)
		}
		if _, err := st.Write([]byte("x")); err == nil {
			t.Errorf("%s: written after the end", name)
		}
		if name == "nil" {
			continue
		}
		full(t, e.dialler.c.Budget, 64<<20)
	}
	e := join(t, nil, nil)
	if _, err := open(t, e.dialler, "nothing").Recv(1); !errors.Is(err, &StreamError{Code: StreamNoKind}) {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestMessageLargerThanItsReaderTakes(t *testing.T) {
	t.Parallel()
	e := join(t, map[string]Handler{"small": func(_ context.Context, st *Stream) error {
		_, err := st.Recv(100)
		return err
	}}, nil)
	st := open(t, e.dialler, "small")
	_ = st.Send(make([]byte, 101))
	if _, err := st.Recv(1); !errors.Is(err, &StreamError{Code: StreamTooLarge}) {
		t.Errorf("%v", err)
	}
}

// What a message says of its length allocates nothing.
func TestT17_MessageLengthAllocatesLittle(t *testing.T) { // alone, since it looks at the memory of all
	done := make(chan uint64, 1)
	e := join(t, map[string]Handler{"huge": func(_ context.Context, st *Stream) error {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := st.Recv(1 << 31)
		runtime.ReadMemStats(&after)
		done <- after.TotalAlloc - before.TotalAlloc
		return err
	}}, nil)
	st := open(t, e.dialler, "huge")
	_, _ = st.Write([]byte{0x7F, 0, 0, 0, 'x'})
	st.CloseWrite()
	if _, err := st.Recv(1); !errors.Is(err, &StreamError{Code: StreamFailed}) {
		t.Errorf("a message that is cut: %v", err)
	}
	if n := <-done; n > 1<<20 {
		t.Errorf("a length of 2 GiB allocated %d bytes", n)
	}
}

// Streams that live for a moment leave nothing behind.
func TestTenThousandShortStreams(t *testing.T) {
	t.Parallel()
	e := join(t, map[string]Handler{"echo": func(_ context.Context, st *Stream) error {
		p, err := st.Recv(1 << 10)
		if err != nil {
			return err
		}
		return st.Send(p)
	}}, nil)
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Go(func() {
			for i := range 200 {
				want := fmt.Appendf(nil, "%d/%d", g, i)
				ctx, cancel := context.WithCancel(context.Background())
				st, err := e.dialler.Open(ctx, "echo")
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				switch {
				case i%7 == 3:
					cancel() // in the middle of whatever it is at
				case i%11 == 5:
					st.Close()
				default:
					err := st.Send(want)
					got, rerr := st.Recv(100)
					if err != nil || rerr != nil || !bytes.Equal(got, want) {
						t.Errorf("%v, %v, %q", err, rerr, got)
					}
					st.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	eventually(t, "no streams", func() bool { return e.dialler.Streams()+e.listener.Streams() == 0 })
	full(t, e.budget, 64<<20)
	full(t, e.dialler.c.Budget, 64<<20)
}

// Whoever opens and resets at once, again and again, gets no more handlers to run than there may be streams.
func TestT23_RapidResets(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int64
	stop := make(chan struct{})
	e := join(t, map[string]Handler{"stubborn": func(ctx context.Context, st *Stream) error {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-stop
		return nil
	}, "echo": echo}, func(c *StreamConfig) { c.MaxStreams = 50 })
	for range 2000 {
		st := open(t, e.dialler, "stubborn")
		st.Reset(StreamCancelled, "")
	}
	if _, err := open(t, e.dialler, "echo").Recv(1); !errors.Is(err, &StreamError{Code: StreamBusy}) {
		t.Errorf("beside 50 handlers that do not return: %v", err)
	}
	close(stop)
	if n := most.Load(); n > 50 {
		t.Errorf("%d handlers ran at a time", n)
	}
}

// A call is answered in time while other streams take all that the connection gives.
func TestCallsBesideBulk(t *testing.T) {
	t.Parallel()
	e := join(t, map[string]Handler{"echo": echo, "tail": func(_ context.Context, st *Stream) error {
		p := make([]byte, 64<<10)
		for {
			if _, err := st.Write(p); err != nil {
				return err
			}
		}
	}}, nil)
	var bulk atomic.Int64
	for range 4 {
		st := open(t, e.dialler, "tail")
		go func() {
			p := make([]byte, 64<<10)
			for {
				n, err := st.Read(p)
				if bulk.Add(int64(n)); err != nil {
					return
				}
			}
		}()
	}
	eventually(t, "bulk flows", func() bool { return bulk.Load() > 64<<20 })
	before := bulk.Load()
	for range 50 {
		st := open(t, e.dialler, "echo")
		began := time.Now()
		_ = st.Send([]byte("hello"))
		if _, err := st.Recv(100); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > patience/2 {
			t.Errorf("a call took %v", d)
		}
		st.Close()
	}
	eventually(t, "bulk flows on", func() bool { return bulk.Load() > before })
}

// still is a mux without its goroutines: what is given to it stays where it is.
func still() *Mux {
	return &Mux{
		c: StreamConfig{Budget: NewBudget(1 << 20)}.withDefaults(), dialled: true, tail: -1,
		wake: make(chan struct{}, 1), done: make(chan struct{}), streams: map[uint64]*Stream{},
	}
}

// waits has somebody wait for a turn behind all others.
func waits(t *testing.T, m *Mux, f func()) {
	t.Helper()
	m.mu.Lock()
	before := len(m.queue)
	m.mu.Unlock()
	go f()
	eventually(t, "it waits", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.queue) == before+1 })
}

// Whoever gets a turn and has no use for it any more hands it on.
func TestTurnIsHandedOn(t *testing.T) {
	t.Parallel()
	turn, over := make(chan struct{}, 1), make(chan struct{})
	for what, c := range map[string]struct {
		first func(m *Mux, st *Stream)
		end   func(m *Mux, st *Stream) // under mu, while it gets the turn
	}{
		"writes, and its end was written": {func(_ *Mux, st *Stream) { _, _ = st.Write([]byte("x")) }, func(_ *Mux, st *Stream) { st.told, st.credit = true, 0 }},
		"opens one too many":              {func(m *Mux, _ *Stream) { _, _ = m.Open(context.Background(), "x") }, func(m *Mux, _ *Stream) { m.c.MaxStreams = 0 }},
		"has ended": {func(m *Mux, _ *Stream) {
			if m.room(turn, over) == nil { // both are ready
				m.turnsLocked(1)
				m.mu.Unlock()
			}
		}, func(*Mux, *Stream) { close(over) }},
	} {
		m := still()
		st, next := newStream(context.Background(), m, "x"), newStream(context.Background(), m, "x")
		m.out = make([]byte, outBytes)
		wrote := make(chan error, 1)
		waits(t, m, func() { c.first(m, st) })
		waits(t, m, func() { _, err := next.Write([]byte("x")); wrote <- err })
		m.mu.Lock()
		c.end(m, st)
		m.turnsLocked(1)
		m.mu.Unlock()
		select {
		case err := <-wrote:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the turn was lost", what)
		}
	}
}

// The end may be written by somebody else than who writes, and waits for his turn: nothing comes behind it.
func TestEndInTheMiddleOfWriting(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(st *Stream){
		"end":   func(st *Stream) { _ = st.CloseWrite() },
		"reset": func(st *Stream) { st.Reset(StreamCancelled, "") },
	} {
		m := still()
		st := newStream(context.Background(), m, "x")
		st.id = 1
		m.out = AppendFrame(nil, KindOpen, 1, make([]byte, outBytes))
		done := make(chan struct{})
		waits(t, m, func() { _, _ = st.Write([]byte("late")); close(done) })
		end(st)
		m.mu.Lock()
		m.turnsLocked(1)
		m.mu.Unlock()
		<-done
		_, out := m.takeLocked()
		r := NewFrameReader(bytes.NewReader(out))
		for _, want := range []Kind{KindOpen, map[string]Kind{"end": KindFin, "reset": KindReset}[what]} {
			if f, err := r.Next(1 << 20); err != nil || f.Kind != want {
				t.Errorf("%s: type %d, %v, should be %d", what, f.Kind, err, want)
			}
		}
		if _, err := r.Next(1 << 20); err != io.EOF {
			t.Errorf("%s: something comes behind it: %v", what, err)
		}
	}
}
