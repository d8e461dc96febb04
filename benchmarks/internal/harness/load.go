package harness

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A Load is writers in a closed loop that go on while things happen around them. What they see is told apart by
// windows: an append belongs to the one in which it began.
type Load struct {
	sys     System
	class   Class
	now     atomic.Pointer[Window]
	ended   atomic.Bool
	cancel  context.CancelFunc
	writers sync.WaitGroup
}

// A Window is a stretch of a load's time. Its figures are complete when the load has stopped.
type Window struct {
	Histogram
	errors     atomic.Uint64
	last       atomic.Pointer[string]
	begin, end time.Time
	payload    int
}

// StartLoad starts the writers of a class.
func StartLoad(ctx context.Context, sys System, class Class) *Load {
	l := &Load{sys: sys, class: class}
	ctx, l.cancel = context.WithTimeout(ctx, time.Hour)
	l.now.Store(&Window{begin: time.Now(), payload: class.Payload})
	payload := Payload(class.Payload)
	for w := range class.Writers {
		l.writers.Go(func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			for !l.ended.Load() {
				now, begin := l.now.Load(), time.Now()
				if err := sys.Append(ctx, payload); err != nil {
					now.errors.Add(1)
					now.last.Store(new(err.Error()))
					time.Sleep(time.Millisecond)
					continue
				}
				now.Add(w, time.Since(begin))
			}
		})
	}
	return l
}

// Next ends a window and begins the next one.
func (l *Load) Next() *Window {
	next := &Window{begin: time.Now(), payload: l.class.Payload}
	w := l.now.Swap(next)
	w.end = next.begin
	return w
}

// Stop waits for the writers.
func (l *Load) Stop() {
	l.ended.Store(true)
	cancelled := time.AfterFunc(30*time.Second, l.cancel)
	defer cancelled.Stop()
	l.writers.Wait()
	l.cancel()
}

// Rate is what the writers saw in the window.
func (w *Window) Rate() Rate {
	r := Rate{Appends: w.Count(), Errors: w.errors.Load(), P50: w.Quantile(.5), P99: w.Quantile(.99), P999: w.Quantile(.999), Max: w.Quantile(1)}
	if e := w.last.Load(); e != nil {
		r.LastError = *e
	}
	r.PerSecond = float64(r.Appends) / w.end.Sub(w.begin).Seconds()
	r.MiB = r.PerSecond * float64(w.payload) / (1 << 20)
	return r
}

// Wall is how long the window lasted.
func (w *Window) Wall() time.Duration { return w.end.Sub(w.begin) }
