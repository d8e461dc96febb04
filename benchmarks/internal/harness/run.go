package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Class is a number of writers that do the same.
type Class struct {
	Payload int // bytes
	Writers int
}

// A Rate is what the writers of a class have seen.
type Rate struct {
	Appends   uint64
	Errors    uint64
	LastError string `json:",omitempty"`
	PerSecond float64
	MiB       float64 // of payload per second
	P50       time.Duration
	P99       time.Duration
	P999      time.Duration
	Max       time.Duration
}

// The phases of a run.
const (
	warming int32 = iota
	measuring
	ending
)

// Run lets all classes append at the same time, each writer in a closed loop: it waits for its append before it
// begins the next one. After warm it measures for about d: what completes in that time counts. around, if not nil, is
// called at the beginning of the measured time, and what it returns at its end.
func Run(ctx context.Context, sys System, warm, d time.Duration, around func() (end func()), classes ...Class) ([]Rate, Usage, error) {
	// dragonboat wants a deadline; the others do not mind one that is far away.
	ctx, cancel := context.WithTimeout(ctx, warm+d+2*time.Minute)
	defer cancel()
	var phase atomic.Int32
	var writers sync.WaitGroup
	seen := make([]struct {
		Histogram
		errors atomic.Uint64
		last   atomic.Pointer[string]
	}, len(classes))
	for i, c := range classes {
		s := &seen[i]
		payload := Payload(c.Payload)
		for w := range c.Writers {
			writers.Go(func() {
				// A ctx of its own, as requests have: 1,024 writers that wait on one would queue for its lock.
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				own := make([]time.Duration, 0, 64) // what was seen and is not counted yet
				for {
					begin := time.Now()
					err := sys.Append(ctx, payload)
					took := time.Since(begin)
					now := phase.Load()
					switch {
					case now == ending:
						s.Add(w, own...)
						return
					case err != nil:
						s.errors.Add(1)
						s.last.Store(new(err.Error()))
						time.Sleep(time.Millisecond)
					case now == measuring:
						if own = append(own, took); len(own) == cap(own) {
							s.Add(w, own...)
							own = own[:0]
						}
					}
				}
			})
		}
	}
	stop := func() {
		phase.Store(ending)
		cancelled := time.AfterFunc(10*time.Second, cancel)
		defer cancelled.Stop()
		writers.Wait()
	}
	if err := sleep(ctx, warm); err != nil {
		stop()
		return nil, Usage{}, err
	}
	end := func() {}
	if around != nil {
		end = around()
	}
	before := TakeSample()
	phase.Store(measuring)
	err := sleep(ctx, d)
	phase.Store(ending)
	use := TakeSample().Since(before)
	end()
	stop()
	if err != nil {
		return nil, use, err
	}
	rates := make([]Rate, len(classes))
	for i, c := range classes {
		s := &seen[i]
		r := Rate{Appends: s.Count(), Errors: s.errors.Load(), P50: s.Quantile(.5), P99: s.Quantile(.99), P999: s.Quantile(.999), Max: s.Quantile(1)}
		if e := s.last.Load(); e != nil {
			r.LastError = *e
		}
		r.PerSecond = float64(r.Appends) / use.Wall.Seconds()
		r.MiB = r.PerSecond * float64(c.Payload) / (1 << 20)
		rates[i] = r
		if r.Appends == 0 {
			return rates, use, fmt.Errorf("%s: no append of %d bytes succeeded in %v; last error: %q", sys.Name(), c.Payload, d, r.LastError)
		}
	}
	return rates, use, nil
}

// Payload returns n bytes that do not compress.
func Payload(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
