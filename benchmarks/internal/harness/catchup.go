package harness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A CatchUp says what happens around a load.
type CatchUp struct {
	Class   Class
	Size    int64         // bytes of payload that are appended while a follower is away, and that each reader replays
	Record  int           // bytes of one of those records
	Readers int           // of the log, on the leader's member; 0: none
	Quiet   time.Duration // how long the undisturbed load is measured, before and after, and the one without a follower
	Limit   time.Duration // how long the follower, and then the readers, are waited for
	Joins   bool          // the follower is no member before, but is added; else another is away in the end, and nothing is copied
}

// A Stretch is what the writers saw of one stretch of time, and what it took.
type Stretch struct {
	Rate    Rate
	Wall    time.Duration
	Done    bool    // the follower, or all readers, have got everything
	Bytes   int64   // that the follower or all readers together have got
	MiB     float64 // of those, per second
	Memory  int64   // most of this process, which is all members and the writers: bytes, mapped files not counted
	Roles   uint64  // how often the leader's role was given anew
	Usage   Usage   // of this process, and of others beside it
	Problem string  `json:",omitempty"`
}

// A CaughtUp is what was measured.
type CaughtUp struct {
	Before, Follower, After, Readers, Away Stretch
	FillMiB                                float64 // per second, while a follower is away
}

// Run measures. around, if not nil, is called with what is about to happen, and what it returns at the end of that.
func (c CatchUp) Run(ctx context.Context, sys Laggard, dir string, around func(what string) func()) (out CaughtUp, err error) {
	if around == nil {
		around = func(string) func() { return func() {} }
	}
	memory := WatchMemory()
	defer memory.Stop()
	var load *Load
	// stretch measures what happens in f.
	stretch := func(what string, d *Stretch, f func() error) (*Window, error) {
		term := sys.Term()
		memory.Next()
		load.Next()
		end, began := around(what), TakeSample()
		err := f()
		w := load.Next()
		d.Usage = TakeSample().Since(began)
		end()
		d.Wall, d.Memory, d.Roles = w.Wall(), memory.Next(), sys.Term()-term
		d.MiB = float64(d.Bytes) / (1 << 20) / d.Wall.Seconds()
		return w, err
	}
	quiet := func() error { return sleep(ctx, c.Quiet) }

	// alone measures the load beside nothing.
	alone := func(what string, d *Stretch) error {
		load = StartLoad(ctx, sys, c.Class)
		if err := sleep(ctx, time.Second); err != nil {
			load.Stop()
			return err
		}
		w, err := stretch(what, d, quiet)
		load.Stop()
		d.Rate = w.Rate()
		return err
	}
	if err := alone("before", &out.Before); err != nil {
		return out, err
	}
	if err := sys.StopOne(); err != nil {
		return out, fmt.Errorf("stop a follower: %w", err)
	}
	began := time.Now()
	if err := c.fill(ctx, sys); err != nil {
		return out, fmt.Errorf("append while a follower is away: %w", err)
	}
	out.FillMiB = float64(c.Size) / (1 << 20) / time.Since(began).Seconds()
	if err := Cold(dir); err != nil {
		return out, err
	}

	load = StartLoad(ctx, sys, c.Class)
	defer load.Stop()
	if err := sleep(ctx, time.Second); err != nil {
		return out, err
	}
	during, err := stretch("follower", &out.Follower, func() error {
		if err := sys.StartOne(); err != nil {
			return err
		}
		out.Follower.Done = within(ctx, c.Limit, func() bool { return sys.Behind() <= 2*uint64(c.Class.Writers) })
		if out.Follower.Done {
			out.Follower.Bytes = c.Size
		}
		return ctx.Err()
	})
	if err != nil {
		return out, fmt.Errorf("while the follower catches up: %w", err)
	}
	after, err := stretch("after", &out.After, quiet)
	if err != nil {
		return out, err
	}
	var reading *Window
	if c.Readers > 0 {
		if err := Cold(dir); err != nil {
			return out, err
		}
		reading, err = stretch("readers", &out.Readers, func() error {
			failed := c.replay(ctx, sys, &out.Readers)
			if failed != nil {
				out.Readers.Problem = failed.Error()
			}
			return ctx.Err()
		})
		if err != nil {
			return out, fmt.Errorf("while readers replay: %w", err)
		}
	}
	load.Stop()
	out.Follower.Rate, out.After.Rate = during.Rate(), after.Rate()
	if reading != nil {
		out.Readers.Rate = reading.Rate()
	}
	if c.Joins {
		return out, nil
	}
	if err := sys.StopOne(); err != nil {
		return out, fmt.Errorf("stop a follower again: %w", err)
	}
	return out, alone("away", &out.Away)
}

// fill appends what the follower will lack.
func (c CatchUp) fill(ctx context.Context, sys System) error {
	var next atomic.Int64
	var writers sync.WaitGroup
	var first atomic.Pointer[error]
	payload, n := Payload(c.Record), c.Size/int64(c.Record)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	for range 32 {
		writers.Go(func() {
			for next.Add(1) <= n {
				if err := sys.Append(ctx, payload); err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	writers.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

// replay lets readers read everything.
func (c CatchUp) replay(ctx context.Context, sys Laggard, d *Stretch) error {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	var readers sync.WaitGroup
	var whole atomic.Int64
	var bytes atomic.Int64
	errs := make([]error, c.Readers)
	for i := range c.Readers {
		readers.Go(func() {
			var have int64
			errs[i] = sys.Replay(ctx, func(n int) bool {
				have += int64(n)
				bytes.Add(int64(n))
				return have < c.Size
			})
			if have >= c.Size {
				whole.Add(1)
			}
		})
	}
	readers.Wait()
	d.Bytes, d.Done = bytes.Load(), whole.Load() == int64(c.Readers)
	if d.Done {
		return nil
	}
	return errors.Join(errs...)
}

// within polls until ok returns true, for a while.
func within(ctx context.Context, d time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(d); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}
