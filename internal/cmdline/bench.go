package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha/client"
	"github.com/baton-ha/baton/internal/stats"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure load and latency of a real cluster, and a failover", Category: "Look",
		Description: "It writes to the cluster: with -append records of zeros, past the program's own handler, which stay in the log; with -call the same request\n" +
			"again and again. Each writer waits for an answer before it goes on. With -failover the Active hands over in the middle, and it is said how\n" +
			"long nobody was answered.\n\n" +
			"Examples:\n\n" +
			"    baton bench -append -writers 32 -size 1024 -duration 30s\n" +
			"    baton bench -call 'get stock/7' -failover",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "append", Usage: "append records, as an operator"},
			&cli.StringFlag{Name: "call", Usage: "call the Active's program with `REQUEST`"},
			&cli.IntFlag{Name: "writers", Usage: "so many at a time, 1 to 64", Value: 8},
			&cli.IntFlag{Name: "size", Usage: "bytes of a record, up to 1 MiB", Value: 128},
			&cli.DurationFlag{Name: "duration", Usage: "for how long", Value: 10 * time.Second},
			&cli.BoolFlag{Name: "failover", Usage: "hand the role over in the middle, as an operator"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: runBench,
	}
}

func runBench(ctx context.Context, c *cli.Command) error {
	writers, size := c.Int("writers"), c.Int("size")
	switch _, err := words(c, 0, 0); {
	case err != nil:
		return err
	case c.Bool("append") == c.IsSet("call"):
		return usage("bench: either -append or -call says what to do: both write to the cluster")
	case writers < 1 || writers > 64:
		return usage("bench: -writers %d is not from 1 to 64", writers)
	case size < 0 || size > maxRecord:
		return usage("bench: -size %d is not from 0 to %d", size, maxRecord)
	case c.Duration("duration") <= 0:
		return usage("bench: -duration must be positive")
	}
	o, err := dial(ctx, c, c.Bool("append") || c.Bool("failover"))
	if err != nil {
		return err
	}
	defer o.Close()
	b := &bench{client: o, record: make([]byte, size), request: []byte(c.String("call")), calls: c.IsSet("call"), patience: c.Duration("timeout")}
	if err := b.warm(ctx); err != nil {
		return err
	}
	r, err := b.run(ctx, writers, c.Duration("duration"), c.Bool("failover"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(out(c), r, "  ")
	}
	return r.print(out(c))
}

// A bench is one measurement.
type bench struct {
	client   *client.Client
	record   []byte
	request  []byte
	calls    bool
	patience time.Duration // with one answer

	latency         stats.Histogram
	unknown, failed atomic.Uint64

	mu   sync.Mutex // guards what follows
	last time.Time  // of the last answer
	gap  time.Duration
	err  error // the last
}

// measured is what a bench has found. Times are in seconds.
type measured struct {
	What     string         `json:"what"`
	Writers  int            `json:"writers"`
	Seconds  float64        `json:"seconds"`
	Done     uint64         `json:"done"`
	PerSec   float64        `json:"per_second"`
	Unknown  uint64         `json:"unknown"` // they may have been done
	Failed   uint64         `json:"failed"`
	Err      string         `json:"last_error,omitempty"`
	Latency  map[string]sec `json:"latency"` // quantiles, and max
	Gap      sec            `json:"longest_without_answer"`
	Failover *failedOver    `json:"failover,omitempty"`
}

type failedOver struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Epoch uint64 `json:"epoch"`
	Took  sec    `json:"took"` // from asking until the other one was Active
}

// sec is a duration, as seconds in JSON.
type sec time.Duration

func (s sec) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.6f", time.Duration(s).Seconds()), nil
}

func (s sec) String() string {
	d := time.Duration(s)
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// once does one thing.
func (b *bench) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.patience, errTimeout)
	defer cancel()
	if b.calls {
		_, err := b.client.Call(ctx, b.request)
		return err
	}
	_, _, err := b.client.Append(ctx, b.record)
	return err
}

// warm connects, and finds out whether it works at all.
func (b *bench) warm(ctx context.Context) error {
	for range 3 {
		if err := b.once(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) run(ctx context.Context, writers int, duration time.Duration, failover bool) (*measured, error) {
	began := time.Now()
	b.last = began
	enough, cancel := context.WithDeadline(ctx, began.Add(duration))
	defer cancel()
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for enough.Err() == nil {
				b.measure(ctx)
			}
		})
	}
	r := &measured{What: fmt.Sprintf("append %d bytes", len(b.record)), Writers: writers}
	if b.calls {
		r.What = "call"
	}
	var failure error
	if failover {
		select {
		case <-time.After(duration / 2):
			r.Failover, failure = b.failover(ctx)
		case <-enough.Done():
		}
	}
	writing.Wait()
	if failure != nil {
		return nil, failure
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	span, d := time.Since(began), b.latency.Snapshot()
	b.answered(time.Now())
	r.Seconds, r.Done, r.PerSec = span.Seconds(), d.Count, float64(d.Count)/span.Seconds()
	r.Unknown, r.Failed, r.Gap = b.unknown.Load(), b.failed.Load(), sec(b.gap)
	if b.err != nil {
		r.Err = textOf(b.err)
	}
	r.Latency = map[string]sec{"max": sec(d.Max)}
	for _, q := range quantiles {
		r.Latency[q.name] = sec(d.Quantile(q.of))
	}
	return r, nil
}

var quantiles = []struct {
	name string
	of   float64
}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}}

// measure does one thing and takes the time.
func (b *bench) measure(ctx context.Context) {
	began := time.Now()
	err := b.once(ctx)
	now := time.Now()
	switch {
	case err == nil:
		b.latency.Observe(int64(now.Sub(began)))
		b.answered(now)
		return
	case ctx.Err() != nil:
		return
	case errors.Is(err, client.ErrUnknown):
		b.unknown.Add(1)
	default:
		b.failed.Add(1)
	}
	b.mu.Lock()
	b.err = err
	b.mu.Unlock()
	select { // what is refused at once is not asked for again at once
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
	}
}

func (b *bench) answered(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gap = max(b.gap, now.Sub(b.last))
	if now.After(b.last) {
		b.last = now
	}
}

// failover hands the role over and waits for the next Active.
func (b *bench) failover(ctx context.Context) (*failedOver, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.patience, errTimeout)
	defer cancel()
	before, began := b.client.Cluster(), time.Now()
	if err := b.client.HandOver(ctx, ""); err != nil {
		return nil, err
	}
	for now := range b.client.Watch(ctx) {
		if now.Active != "" && now.Epoch > before.Epoch {
			return &failedOver{From: before.Active, To: now.Active, Epoch: now.Epoch, Took: sec(time.Since(began))}, nil
		}
	}
	return nil, fmt.Errorf("the role was handed over: %w: %w", client.ErrNoActive, context.Cause(ctx))
}

func (r *measured) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s, %d writers, %.1f s\n\ndone     %d, %.0f/s\nlatency  p50 %v  p90 %v  p99 %v  p99.9 %v  max %v\nlongest without an answer: %v\n",
		r.What, r.Writers, r.Seconds, r.Done, r.PerSec, r.Latency["p50"], r.Latency["p90"], r.Latency["p99"], r.Latency["p99.9"], r.Latency["max"], r.Gap)
	if err == nil && r.Unknown+r.Failed > 0 {
		_, err = fmt.Fprintf(w, "open: %d, failed: %d, the last: %s\n", r.Unknown, r.Failed, r.Err)
	}
	if f := r.Failover; err == nil && f != nil {
		_, err = fmt.Fprintf(w, "handed over from %s to %s (epoch %d) in %v\n", f.From, f.To, f.Epoch, f.Took)
	}
	return err
}
