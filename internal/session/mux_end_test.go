package session

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"
)

// raw is a mux whose other side is ours to write, as the dialler.
func raw(t testing.TB, table map[string]Handler, change func(c *StreamConfig)) (*Link, *Mux) {
	t.Helper()
	a, b := wires(t)
	c := StreamConfig{Budget: NewBudget(64 << 20), Accept: kinds(table)}
	if change != nil {
		change(&c)
	}
	m := NewMux(NewLink(b, b), false, c)
	t.Cleanup(func() { m.Close() })
	return NewLink(a, a), m
}

func ended(t testing.TB, m *Mux, what string) error {
	t.Helper()
	select {
	case <-m.Done():
	case <-time.After(patience):
		t.Fatalf("%s: the session goes on", what)
	}
	return m.Err()
}

// Whatever is not as it should be ends the session, at once and with a word why.
func TestT17_ViolationsEndTheSession(t *testing.T) {
	t.Parallel()
	credit := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	type step struct {
		k    Kind
		id   uint64
		body []byte
	}
	opened := step{KindOpen, 1, []byte("hold")}
	for name, steps := range map[string][]step{
		"raft's message":        {{KindMessage, 7, []byte("x")}},
		"hello again":           {{KindHello, 0, nil}},
		"unknown kind":          {{99, 0, nil}},
		"data for nobody":       {{KindData, 1, []byte("x")}},
		"data for stream 0":     {opened, {KindData, 0, []byte("x")}},
		"no data":               {opened, {KindData, 1, nil}},
		"data of another":       {opened, {KindData, 2, []byte("x")}},
		"beyond the window":     {opened, {KindData, 1, make([]byte, FirstWindow)}, {KindData, 1, []byte("x")}},
		"too large":             {opened, {KindData, 1, make([]byte, maxChunk+1)}},
		"sealed for nobody":     {{KindSealed, 1, []byte("x")}},
		"nothing sealed":        {opened, {KindSealed, 1, nil}},
		"sealed beyond all":     {opened, {KindSealed, 1, make([]byte, FirstWindow+1)}},
		"too much sealed":       {opened, {KindSealed, 1, make([]byte, maxSealed+1)}},
		"sealed behind the end": {opened, {KindFin, 1, nil}, {KindSealed, 1, []byte("x")}},
		"data behind the end":   {opened, {KindFin, 1, nil}, {KindData, 1, []byte("x")}},
		"two ends":              {opened, {KindFin, 1, nil}, {KindFin, 1, nil}},
		"end with a body":       {opened, {KindFin, 1, []byte("x")}},
		"no credit":             {opened, {KindCredit, 1, credit(0)}},
		"odd credit":            {opened, {KindCredit, 1, []byte("xyz")}},
		"reset without code":    {opened, {KindReset, 1, []byte("x")}},
		"reset with a novel":    {opened, {KindReset, 1, make([]byte, 3+maxStreamText)}},
		"opened twice":          {opened, opened},
		"opened out of turn":    {{KindOpen, 2, []byte("hold")}},
		"opened as stream 0":    {{KindOpen, 0, []byte("hold")}},
		"kind without a name":   {{KindOpen, 1, nil}},
		"kind with a long name": {{KindOpen, 1, make([]byte, 65)}},
		"kind of odd bytes":     {{KindOpen, 1, []byte("a\nb")}},
		"ping with a body":      {{KindPing, 0, []byte("x")}},
		"pong with an id":       {{KindPong, 1, nil}},
	} {
		over := make(chan error, 1)
		l, m := raw(t, map[string]Handler{"hold": func(ctx context.Context, _ *Stream) error {
			<-ctx.Done()
			over <- context.Cause(ctx)
			return nil
		}}, nil)
		for _, s := range steps {
			if err := l.Send(AppendFrame(nil, s.k, s.id, s.body), time.Second); err != nil {
				break
			}
		}
		if err := ended(t, m, name); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: ended with %v", name, err)
		}
		if steps[0].k == KindOpen && len(steps) > 1 {
			if err := <-over; !errors.Is(err, ErrLost) {
				t.Errorf("%s: the handler's ctx ended with %v", name, err)
			}
		}
	}
	l, m := raw(t, map[string]Handler{"hold": func(ctx context.Context, _ *Stream) error { <-ctx.Done(); return nil }}, nil)
	b := AppendFrame(nil, KindOpen, 1, []byte("hold"))
	for range 300 {
		b = AppendFrame(b, KindCredit, 1, credit(1<<32-1))
	}
	_ = l.Send(b, time.Second)
	if err := ended(t, m, "credit without end"); !errors.Is(err, ErrFrame) {
		t.Errorf("credit without end: %v", err)
	}
}

// The dialler is told that a stream that it has not opened is opened.
func TestT17_ListenerOpensNothing(t *testing.T) {
	t.Parallel()
	a, b := wires(t)
	m := NewMux(NewLink(a, a), true, StreamConfig{Budget: NewBudget(1 << 20)})
	t.Cleanup(func() { m.Close() })
	_ = NewLink(b, b).Send(AppendFrame(nil, KindOpen, 1, []byte("x")), time.Second)
	if err := ended(t, m, "open"); !errors.Is(err, ErrFrame) {
		t.Errorf("ended with %v", err)
	}
}

// What comes late for a stream that is over is no violation.
func TestLateFramesAreSkipped(t *testing.T) {
	t.Parallel()
	l, m := raw(t, map[string]Handler{"no": func(context.Context, *Stream) error { return errors.New("no") }}, nil)
	b := AppendFrame(nil, KindOpen, 1, []byte("no"))
	b = AppendFrame(b, KindOpen, 2, []byte("unknown"))
	for id := uint64(1); id <= 2; id++ {
		b = AppendFrame(b, KindData, id, []byte("x"))
	}
	_ = l.Send(b, time.Second)
	for range 2 {
		if f, err := l.Next(maxChunk); err != nil || f.Kind != KindReset {
			t.Fatalf("%v, %v", f.Kind, err)
		}
	}
	b = nil
	for id := uint64(1); id <= 2; id++ {
		b = AppendFrame(b, KindData, id, []byte("x"))
		b = AppendFrame(b, KindCredit, id, []byte{0, 0, 0, 1})
		b = AppendFrame(b, KindFin, id, nil)
		b = AppendFrame(b, KindReset, id, []byte{0, 1})
	}
	_ = l.Send(AppendFrame(b, KindPing, 0, nil), time.Second)
	if f, err := l.Next(maxChunk); err != nil || f.Kind != KindPong {
		t.Errorf("the session has not gone on: %v, %v, %v", f.Kind, err, m.Err())
	}
}

// Whoever asks for answers and reads none is cut off before they take much memory.
func TestT23_OpensAndReadsNothing(t *testing.T) { // alone, since it looks at the memory of all
	for name, kind := range map[string]string{"refused": "unknown", "served": "quick"} {
		l, m := raw(t, map[string]Handler{"quick": func(context.Context, *Stream) error { return nil }}, nil)
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		var b []byte
		for id := uint64(1); m.Err() == nil && id < 2_000_000; id++ {
			if b = AppendFrame(b, KindOpen, id, []byte(kind)); len(b) > 256<<10 {
				if l.Send(b, patience) != nil {
					break
				}
				b = b[:0]
			}
		}
		runtime.ReadMemStats(&now)
		if grown := int64(now.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
			t.Errorf("%s: the heap has grown by %d bytes", name, grown)
		}
		if err := ended(t, m, name); errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A session whose other side is silent, and one that is there but idle.
func TestPingFindsTheDead(t *testing.T) {
	t.Parallel()
	fast := func(c *StreamConfig) { c.Ping = 20 * time.Millisecond }
	_, m := raw(t, nil, fast)
	if err := ended(t, m, "silent"); !errors.Is(err, errSilent) {
		t.Errorf("ended with %v", err)
	}
	const calm = 300 * time.Millisecond // so that no busy machine looks like silence
	e := join(t, map[string]Handler{"echo": echo}, func(c *StreamConfig) { c.Ping = calm })
	st := open(t, e.dialler, "echo")
	time.Sleep(4 * calm) // four looks
	if _, err := st.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Read(make([]byte, 1)); err != nil {
		t.Errorf("an idle session has ended: %v", err)
	}
}

// Whoever takes nothing is given up, though he gives signs of life.
func TestPeerThatReadsNothing(t *testing.T) {
	t.Parallel()
	l, m := raw(t, map[string]Handler{"tail": func(_ context.Context, st *Stream) error {
		for {
			if _, err := st.Write(make([]byte, 64<<10)); err != nil {
				return err
			}
		}
	}}, func(c *StreamConfig) { c.WriteTimeout = 200 * time.Millisecond })
	b := AppendFrame(nil, KindOpen, 1, []byte("tail"))
	_ = l.Send(AppendFrame(b, KindCredit, 1, []byte{0x7F, 0, 0, 0}), time.Second)
	stop := make(chan struct{})
	go func() {
		for l.Send(AppendFrame(nil, KindPing, 0, nil), time.Second) == nil {
			time.Sleep(10 * time.Millisecond)
		}
		close(stop)
	}()
	ended(t, m, "reads nothing")
	<-stop
}

// The end of the connection ends its streams; what has arrived can be read.
func TestLostSession(t *testing.T) {
	t.Parallel()
	over := make(chan error, 1)
	e := join(t, map[string]Handler{"x": func(ctx context.Context, st *Stream) error {
		_ = st.Send([]byte("answer"))
		<-ctx.Done()
		over <- context.Cause(ctx)
		return nil
	}}, nil)
	st := open(t, e.dialler, "x")
	eventually(t, "answer has come", func() bool { st.mu.Lock(); defer st.mu.Unlock(); return st.in.n == 10 })
	e.listener.l.Close()
	<-st.Context().Done()
	if p, err := st.Recv(10); string(p) != "answer" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	if _, err := st.Recv(10); !errors.Is(err, ErrLost) {
		t.Errorf("behind the answer: %v", err)
	}
	if err := <-over; !errors.Is(err, ErrLost) {
		t.Errorf("the handler's ctx ended with %v", err)
	}
	if _, err := e.dialler.Open(context.Background(), "x"); !errors.Is(err, ErrLost) {
		t.Errorf("open: %v", err)
	}
}

// Close tells the other side of each stream, and ends the handlers of its own.
func TestCloseTellsTheOtherSide(t *testing.T) {
	t.Parallel()
	for _, dialler := range []bool{true, false} {
		over := make(chan error, 1)
		e := join(t, map[string]Handler{"x": func(ctx context.Context, st *Stream) error {
			<-ctx.Done()
			over <- context.Cause(ctx)
			return nil
		}}, nil)
		st := open(t, e.dialler, "x")
		eventually(t, "opened", func() bool { return e.listener.Streams() == 1 })
		first := e.listener
		if dialler {
			first = e.dialler
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		closed := &StreamError{Code: StreamClosed}
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, closed) {
			t.Errorf("dialler %v: %v", dialler, err)
		}
		if err := <-over; !errors.Is(err, closed) {
			t.Errorf("dialler %v: the handler's ctx ended with %v", dialler, err)
		}
		if err := first.Err(); err != ErrClosed {
			t.Errorf("dialler %v: ended with %v", dialler, err)
		}
		if _, err := e.dialler.Open(context.Background(), "x"); err == nil {
			t.Error("opened after Close")
		}
	}
}

func TestCloseAtAnyTime(t *testing.T) {
	t.Parallel()
	for range 30 {
		e := join(t, map[string]Handler{"echo": echo}, nil)
		for range 8 {
			go func() {
				for {
					st, err := e.dialler.Open(context.Background(), "echo")
					if err != nil {
						return
					}
					_, _ = st.Write(make([]byte, 100<<10))
					_, _ = st.Read(make([]byte, 100))
					st.Close()
				}
			}()
		}
		time.Sleep(time.Millisecond)
		go e.dialler.Close()
		e.listener.Close()
		e.dialler.Close()
	}
}

// A dialler may refuse after it has heard who answers. That is no violation: both sides are told why.
func TestRefusedByTheDialler(t *testing.T) {
	t.Parallel()
	l, m := raw(t, nil, nil)
	if err := l.Send(AppendFrame(nil, KindRefuse, 0, AppendCoded(nil, uint16(CodeIDMismatch), "another directory")), patience); err != nil {
		t.Fatal(err)
	}
	err := ended(t, m, "refused")
	var r *RefusedError
	if !errors.As(err, &r) || r.Local || r.Text != "another directory" || !errors.Is(err, ErrIDMismatch) || errors.Is(err, ErrFrame) {
		t.Errorf("the session has ended with %v", err)
	}
}
