package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A watch begins a write every millisecond, whether those before it were answered or not, since one that was under way may be lost, and looks
// for how long nothing is acknowledged.
type watch struct {
	end  context.CancelFunc
	done chan time.Duration // the longest time between two acknowledgements
}

func startWatch(do func(context.Context, []byte) error, payload int) *watch {
	ctx, end := context.WithCancel(context.Background())
	w := &watch{end, make(chan time.Duration, 1)}
	var mu sync.Mutex // guards what follows
	var longest time.Duration
	last, data := time.Now(), harness.Payload(payload)
	var writing sync.WaitGroup
	go func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				writing.Wait()
				w.done <- max(longest, time.Since(last))
				return
			}
			writing.Go(func() {
				if do(ctx, data) != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				now := time.Now()
				longest, last = max(longest, now.Sub(last)), now
			})
		}
	}()
	return w
}

func (w *watch) stop() time.Duration {
	w.end()
	return <-w.done
}

// besides is what the machine does meanwhile: it syncs a block of a file beside those of the members, again and again.
type besides struct {
	end  context.CancelFunc
	done chan time.Duration // the longest that this took
}

func (s settings) startBesides() (*besides, error) {
	f, err := os.Create(filepath.Join(s.dir, "besides"))
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	b := &besides{end, make(chan time.Duration, 1)}
	go func() {
		defer f.Close()
		var longest time.Duration
		for block := make([]byte, 4<<10); ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
			began := time.Now()
			if _, err := f.WriteAt(block, 0); err != nil || f.Sync() != nil {
				break
			}
			longest = max(longest, time.Since(began))
		}
		b.done <- longest
	}()
	return b, nil
}

func (b *besides) stop() time.Duration {
	b.end()
	return <-b.done
}

// gaps kills the leader of each cluster that is written to, again and again, and writes a table of how long a client's writes then stood.
func (s settings) gaps(ctx context.Context, rounds int) error {
	f, err := os.Create(s.out + ".md")
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "# Writes of a client while the leader is killed with SIGKILL, measured %s\n\n%s. Each cluster in three processes on this machine, a client in a fourth that begins a write of %d B every millisecond. The longest time between two acknowledgements.\n\n"+
		"| what | kills | median | lowest | highest |\n|---|---|---|---|---|\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), harness.Machine(), s.payload)
	var errs []error
	for _, o := range s.ops {
		if o.class != "write" {
			continue
		}
		took, err := s.gapsOf(ctx, o, rounds)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o, err))
		}
		if n := len(took); n > 0 {
			slices.Sort(took)
			ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
			row := fmt.Sprintf("| %s | %d | %s | %s | %s |", o, n, ms(took[n/2]), ms(took[0]), ms(took[n-1]))
			fmt.Println(row)
			fmt.Fprintln(f, row)
		}
	}
	return errors.Join(errs...)
}

// afterKill is for how long a client is watched after a kill, and settleTime how long a cluster has to come to rest.
const (
	afterKill  = 5 * time.Second
	settleTime = 2 * time.Second
)

func (s settings) gapsOf(ctx context.Context, o op, rounds int) (took []time.Duration, err error) {
	c, err := find(o.cluster)
	if err != nil {
		return nil, err
	}
	r, err := start(ctx, c, s.dir)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	for range rounds {
		time.Sleep(settleTime)
		leader, err := r.at("leader")
		if err != nil {
			return took, err
		}
		if _, err := r.client.ask(order{Op: o.name, Payload: s.payload, Watch: true}); err != nil {
			return took, err
		}
		machine, err := s.startBesides()
		if err != nil {
			return took, err
		}
		time.Sleep(500*time.Millisecond + rand.N(200*time.Millisecond))
		killed := time.Now()
		_ = leader.cmd.Process.Kill()
		_ = leader.cmd.Wait()
		ended := time.Since(killed)
		select {
		case <-time.After(afterKill):
		case <-ctx.Done():
			machine.stop()
			return took, context.Cause(ctx)
		}
		v, err := r.client.ask(order{})
		synced := machine.stop()
		if err != nil {
			return took, err
		}
		fmt.Printf("%s: %v; the process had ended after %v, and a sync of a file beside took %v at most\n", o, v.Gap.Round(time.Microsecond), ended.Round(time.Microsecond), synced.Round(time.Microsecond))
		took = append(took, v.Gap)
		if err := r.restart(ctx, slices.Index(r.members, leader)); err != nil {
			return took, fmt.Errorf("start it again: %w", err)
		}
	}
	return took, nil
}
