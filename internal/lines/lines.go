// Package lines keeps a program's logger away from goroutines that must not wait. A handler may write to a pipe that nobody reads, or take
// a lock that the program holds. So everything of ours that the program is not waiting for is given a logger whose handler only puts the
// line into a queue; a goroutine of the queue's own calls the program's handler, and the values in the line (their LogValue, String and
// Error), and nobody waits for it.
package lines

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/calls"
)

// Bounds of the lines that wait. What a value takes that only its own methods know is estimated.
const (
	maxLines     = 1024
	maxLineBytes = 1 << 20
	valueBytes   = 512
)

// A Queue is between us and a program's logger. Its goroutine is there while there are lines in it.
type Queue struct {
	to    *lineHandler
	calls calls.Set // of the program's handler

	mu      sync.Mutex // guards everything below
	waiting []logLine
	bytes   int
	dropped int
	busy    bool
	idle    chan struct{} // closed when it is not busy
}

type logLine struct {
	to     *lineHandler
	record slog.Record
	bytes  int
}

// New returns the queue in front of a handler.
func New(to slog.Handler) *Queue {
	l := &Queue{idle: make(chan struct{})}
	close(l.idle)
	l.to = &lineHandler{lines: l, build: func() slog.Handler { return to }}
	return l
}

// Logger returns the logger that never blocks.
func (l *Queue) Logger() *slog.Logger { return slog.New(l.to) }

// Inside returns the name of what this goroutine runs if it is the program's logger, "" otherwise.
func (l *Queue) Inside() string { return l.calls.Inside() }

// Running names the program's logger if it has a line and has not returned.
func (l *Queue) Running() []string { return l.calls.Running() }

// put adds a line, or counts it where there is no room.
func (l *Queue) put(n logLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= maxLines || l.bytes+n.bytes > maxLineBytes && len(l.waiting) > 0 {
		l.dropped++
		return
	}
	l.waiting = append(l.waiting, n)
	l.bytes += n.bytes
	if !l.busy {
		l.busy, l.idle = true, make(chan struct{})
		go l.run()
	}
}

// run hands the lines on until there are none left. A handler that ends the goroutine does not end the queue.
func (l *Queue) run() {
	caller := l.calls.Caller()
	ended := false
	defer func() {
		if !ended {
			go l.run()
		}
	}()
	for {
		n, dropped, ok := l.next()
		if !ok {
			ended = true
			return
		}
		if dropped > 0 {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines were dropped: the logger is too slow", 0)
			r.AddAttrs(slog.Int("lines", dropped))
			l.to.write(caller, r)
		}
		n.to.write(caller, n.record)
	}
}

// next takes the oldest line, and how many had to be dropped up to now.
func (l *Queue) next() (n logLine, dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.busy, l.waiting = false, nil
		close(l.idle)
		return logLine{}, 0, false
	}
	n, l.waiting[0] = l.waiting[0], logLine{}
	l.waiting = l.waiting[1:]
	l.bytes -= n.bytes
	dropped, l.dropped = l.dropped, 0
	return n, dropped, true
}

// Flush waits until every line was handed on, or ctx is over, and reports which.
func (l *Queue) Flush(ctx context.Context) bool {
	l.mu.Lock()
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}

// A lineHandler is the queue's handler, or one that was made from it by WithAttrs and WithGroup. What the program's
// handler has to be made into for it, the queue's goroutine does.
type lineHandler struct {
	lines *Queue
	build func() slog.Handler // called by the queue's goroutine only
	built slog.Handler        // owned by it

	debug atomic.Bool  // the handler wanted lines of debugging when it was asked last
	asked atomic.Int64 // when that was, in Unix nanoseconds
}

// askAgain is after how long the handler is asked again whether it wants lines of debugging, where it has had no others.
const askAgain = time.Second

// Enabled implements [slog.Handler] without asking the program's: that is asked when the line's turn comes.
// Whether it wants the many lines of debugging is remembered from its last line, for a second.
func (h *lineHandler) Enabled(_ context.Context, at slog.Level) bool {
	to := h.lines.to
	return at >= slog.LevelInfo || to.debug.Load() || time.Now().UnixNano()-to.asked.Load() > int64(askAgain)
}

// Handle implements [slog.Handler].
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	size := valueBytes + len(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		size += len(a.Key) + sizeOf(a.Value)
		return true
	})
	h.lines.put(logLine{h, r.Clone(), size})
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{lines: h.lines, build: func() slog.Handler { return h.handler().WithAttrs(attrs) }}
}

// WithGroup implements [slog.Handler].
func (h *lineHandler) WithGroup(name string) slog.Handler {
	return &lineHandler{lines: h.lines, build: func() slog.Handler { return h.handler().WithGroup(name) }}
}

func (h *lineHandler) handler() slog.Handler {
	if h.built == nil {
		h.built = h.build()
	}
	return h.built
}

// write hands a line to the program's handler. Its error, or its panic, is nobody's who could do anything.
func (h *lineHandler) write(caller calls.Caller, r slog.Record) {
	_ = caller.Call("the logger", func() error {
		ctx, to := context.Background(), h.handler()
		h.lines.to.debug.Store(to.Enabled(ctx, slog.LevelDebug))
		h.lines.to.asked.Store(time.Now().UnixNano())
		if !to.Enabled(ctx, r.Level) {
			return nil
		}
		return to.Handle(ctx, r)
	})
}

// sizeOf estimates what a value takes, without calling its methods.
func sizeOf(v slog.Value) int {
	switch v.Kind() {
	case slog.KindString:
		return len(v.String())
	case slog.KindGroup:
		size := 0
		for _, a := range v.Group() {
			size += len(a.Key) + sizeOf(a.Value)
		}
		return size
	case slog.KindAny, slog.KindLogValuer:
		return valueBytes
	}
	return 16
}
