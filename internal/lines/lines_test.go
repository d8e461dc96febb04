package lines

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sluggish is a handler that blocks while it is told to, in every method.
type sluggish struct {
	slog.Handler
	gate *sync.RWMutex
}

func (s sluggish) wait() {
	s.gate.RLock()
	defer s.gate.RUnlock()
}

func (s sluggish) Enabled(ctx context.Context, l slog.Level) bool {
	s.wait()
	return s.Handler.Enabled(ctx, l)
}

func (s sluggish) Handle(ctx context.Context, r slog.Record) error {
	s.wait()
	return s.Handler.Handle(ctx, r)
}

func (s sluggish) WithAttrs(a []slog.Attr) slog.Handler {
	s.wait()
	return sluggish{s.Handler.WithAttrs(a), s.gate}
}

func (s sluggish) WithGroup(name string) slog.Handler {
	s.wait()
	return sluggish{s.Handler.WithGroup(name), s.gate}
}

// rude values do in a line what they like.
type rude func() string

func (r rude) String() string { return r() }

func (r rude) LogValue() slog.Value { return slog.StringValue(r()) }

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestABlockedHandlerBlocksNobody(t *testing.T) {
	var out bytes.Buffer
	s := sluggish{slog.NewTextHandler(&out, nil), new(sync.RWMutex)}
	q := New(s)
	s.gate.Lock()
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		at := q.Logger().With("member", "a").WithGroup("g")
		for i := range 2 * maxLines {
			at.Info("line", "i", i)
		}
	}()
	select {
	case <-begun:
	case <-time.After(10 * time.Second):
		t.Fatal("whoever logs waits for the handler")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if q.Flush(over) {
		t.Error("the lines are out while the handler is blocked")
	}
	s.gate.Unlock()
	if !q.Flush(soon(t)) {
		t.Fatal("the lines do not come out")
	}
	text := out.String()
	// The goroutine had taken one line, or none, when the queue was full.
	n := strings.Count(text, "msg=line")
	if n != maxLines && n != maxLines+1 {
		t.Errorf("%d lines came out, want the %d that there was room for", n, maxLines)
	}
	dropped := 0
	for _, m := range regexp.MustCompile(`lines were dropped.* lines=(\d+)`).FindAllStringSubmatch(text, -1) {
		k, _ := strconv.Atoi(m[1])
		dropped += k
	}
	if n+dropped != 2*maxLines {
		t.Errorf("%d lines came out, and %d are said to be dropped, of %d", n, dropped, 2*maxLines)
	}
	if !strings.Contains(text, "msg=line member=a g.i=0\n") {
		t.Errorf("attributes and groups are lost: %.200s", text)
	}
}

func TestValuesAreAskedByTheQueueOnly(t *testing.T) {
	var out bytes.Buffer
	q := New(slog.NewTextHandler(&out, nil))
	gate := make(chan struct{})
	q.Logger().Info("blocks", "value", rude(func() string { <-gate; return "came" }))
	q.Logger().Info("panics", "value", rude(func() string { panic("rude") }))
	q.Logger().Info("exits", "value", rude(func() string { runtime.Goexit(); return "" }))
	q.Logger().Info("last")
	close(gate)
	if !q.Flush(soon(t)) || !strings.Contains(out.String(), "value=came") || !strings.Contains(out.String(), "msg=last") {
		t.Errorf("a value in a line has stopped the queue:\n%s", out.String())
	}
}

func TestTheHandlerIsInside(t *testing.T) {
	var q *Queue
	in := make(chan string, 1)
	q = New(slog.NewTextHandler(new(bytes.Buffer), nil))
	q.Logger().Info("asks", "value", rude(func() string { in <- q.calls.Inside(); return "" }))
	if got := <-in; got != "the logger" {
		t.Errorf("a value that is asked by the handler is inside %q", got)
	}
	q.Flush(soon(t))
}

func TestAreBoundedInBytes(t *testing.T) {
	s := sluggish{slog.NewTextHandler(new(bytes.Buffer), nil), new(sync.RWMutex)}
	s.gate.Lock()
	q := New(s)
	for range 100 {
		q.Logger().Info(strings.Repeat("x", maxLineBytes/10))
	}
	q.mu.Lock()
	if q.bytes > maxLineBytes || q.dropped == 0 {
		t.Errorf("%d bytes wait, %d lines were dropped", q.bytes, q.dropped)
	}
	q.mu.Unlock()
	s.gate.Unlock()
	if !q.Flush(soon(t)) {
		t.Error("the lines do not come out")
	}
}

func TestLevelsAreTheHandlers(t *testing.T) {
	var out bytes.Buffer
	at := new(slog.LevelVar)
	q := New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: at}))
	say := func(wanted slog.Level) {
		at.Set(wanted)
		q.Logger().Warn("asks the handler again")
		q.Flush(soon(t))
		out.Reset()
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			q.Logger().Log(t.Context(), l, l.String())
		}
		q.Flush(soon(t))
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			if got := strings.Contains(out.String(), "msg="+l.String()); got != (l >= wanted) {
				t.Errorf("with the handler at %v a line at %v came out: %v", wanted, l, got)
			}
		}
	}
	for _, wanted := range []slog.Level{slog.LevelDebug, slog.LevelError, slog.LevelInfo} {
		say(wanted)
	}
}

// A program that gives a handler for lines of debugging gets them from the first on, also where there are no others.
func TestOnlyLinesOfDebugging(t *testing.T) {
	var out bytes.Buffer
	q := New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for range 3 {
		q.Logger().Debug("line")
		q.Flush(soon(t))
	}
	if n := strings.Count(out.String(), "msg=line"); n != 3 {
		t.Errorf("%d of 3 lines came out", n)
	}
}
