package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/examples/internal/demo"
)

// writers is how many clients count at the same time.
const writers = 32

// A script is the demonstration: clients that count all the time, and what happens to the Active
// meanwhile.
type script struct {
	*demo.Cluster
	web     bool // the members' pages are to be looked at
	acked   atomic.Int64
	writers sync.WaitGroup
	result  [writers + 1]result // of the writers, numbered from 1; read when they have ended

	mu    sync.Mutex // guards first, last and err
	first map[uint64]ack
	last  ack // of the newest record
	err   error
}

// A result is what one writer knows of its increments: 1 to sent, each acknowledged.
type result struct{ sent uint64 }

// An ack is the answer to an increment.
type ack struct {
	Index  uint64
	Epoch  uint64
	Member string
	at     time.Time
}

func runDemo(web bool) int {
	return demo.Run("counter", func(ctx context.Context, c *demo.Cluster) (string, error) {
		s := &script{Cluster: c, web: web, first: map[uint64]ack{}}
		return s.run(ctx)
	})
}

func (s *script) run(ctx context.Context) (string, error) {
	if err := s.StartAll(); err != nil {
		return "", err
	}
	s.Printf("started three members: a (pid %d), b (pid %d), c (pid %d)", s.Members[0].Pid(), s.Members[1].Pid(), s.Members[2].Pid())
	if s.web {
		s.ShowPages("/admin/", s.Members)
	}
	m, st, err := s.AwaitActive(ctx, 0)
	if err != nil {
		return "", err
	}
	s.Printf("%s is Active in epoch %d; %d clients begin to count", m.Name, st.Epoch, writers)

	load, stop := context.WithCancel(ctx)
	defer stop()
	for w := 1; w <= writers; w++ {
		s.writers.Go(func() { s.count(ctx, load, w) })
	}
	s.writers.Go(func() { s.show(load) })
	for _, step := range []func(context.Context) error{s.kill, s.handOver, s.pause} {
		if err := demo.Pace(ctx, 2500*time.Millisecond); err != nil {
			return "", err
		}
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	if err := demo.Pace(ctx, 1500*time.Millisecond); err != nil {
		return "", err
	}
	stop()
	s.writers.Wait()
	s.Printf("the clients have stopped, each knowing the fate of all its increments")
	return s.verify(ctx)
}

// count is one writer. It numbers its increments and repeats each, wherever the Active is, until it is
// acknowledged; then comes the next. It ends after an acknowledgement, so that nothing stays open.
func (s *script) count(ctx, load context.Context, w int) {
	var last uint64
	for seq := uint64(1); load.Err() == nil; seq++ {
		var a ack
		code, err := s.Client.Post(ctx, fmt.Sprintf("/add?id=w%d/%d", w, seq), "", &a)
		switch {
		case err != nil:
			s.fail(fmt.Errorf("writer %d: increment %d: %w", w, seq, err))
			return
		case code != http.StatusOK:
			s.fail(fmt.Errorf("writer %d: increment %d: HTTP status %d", w, seq, code))
			return
		case a.Index <= last:
			s.fail(fmt.Errorf("writer %d: record %d was acknowledged after record %d", w, a.Index, last))
			return
		}
		last = a.Index
		s.result[w].sent = seq
		s.acked.Add(1)
		s.note(a)
	}
}

func (s *script) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// note keeps the first acknowledgement of each epoch, and the one of the newest record: answers come in another order than their
// records were written.
func (s *script) note(a ack) {
	a.at = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.first[a.Epoch]; !ok {
		s.first[a.Epoch] = a
	}
	if a.Index > s.last.Index {
		s.last = a
	}
}

// next waits for the first increment that was acknowledged in a later epoch.
func (s *script) next(ctx context.Context, epoch uint64) (a ack, err error) {
	err = demo.Await(ctx, "an increment is acknowledged in the next epoch", 20*time.Second, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		found := false
		for e, first := range s.first {
			if e > epoch && (!found || e < a.Epoch) {
				a, found = first, true
			}
		}
		return found
	})
	return a, err
}

// show prints who is Active, and the rate.
func (s *script) show(ctx context.Context) {
	const every = 2 * time.Second
	before, since := s.acked.Load(), time.Now()
	for demo.Pace(ctx, every) == nil {
		n, now := s.acked.Load(), time.Now()
		s.mu.Lock()
		a := s.last
		s.mu.Unlock()
		who := fmt.Sprintf("%s Active, epoch %d", a.Member, a.Epoch)
		if now.Sub(a.at) > 300*time.Millisecond {
			who = "nobody answers"
		}
		s.Printf("  %-18s %9s acknowledged, %6s/s", who, demo.Thousands(n),
			demo.Thousands(int64(float64(n-before)/now.Sub(since).Seconds())))
		before, since = n, now
	}
}

func (s *script) kill(ctx context.Context) error {
	m, st, err := s.AwaitActive(ctx, 0)
	if err != nil {
		return err
	}
	s.Printf("kill -9 %s, the Active of epoch %d", m.Name, st.Epoch)
	killed := m.Kill()
	a, err := s.next(ctx, st.Epoch)
	if err != nil {
		return err
	}
	s.Printf("%s is Active in epoch %d: its first increment acknowledged %s after the kill", a.Member, a.Epoch, ms(a.at.Sub(killed)))
	if err := m.Start(); err != nil {
		return err
	}
	restarted := time.Now()
	if err := s.AwaitIndex(ctx, m, a.Index); err != nil {
		return err
	}
	s.Printf("%s was started again and has caught up, %s later", m.Name, ms(time.Since(restarted)))
	return nil
}

func (s *script) handOver(ctx context.Context) error {
	m, st, err := s.AwaitActive(ctx, 0)
	if err != nil {
		return err
	}
	s.Printf("ask %s, the Active of epoch %d, to hand over", m.Name, st.Epoch)
	asked := time.Now()
	code, answer, err := s.Client.PostTo(ctx, m, "/handover")
	if err != nil || code != http.StatusOK {
		return fmt.Errorf("POST /handover to %s: HTTP status %d %s, %v", m.Name, code, answer, err)
	}
	a, err := s.next(ctx, st.Epoch)
	if err != nil {
		return err
	}
	s.Printf("%s is Active in epoch %d: its first increment acknowledged %s after the request", a.Member, a.Epoch, ms(a.at.Sub(asked)))
	return nil
}

// pause shows what fencing is for: the Active sleeps through the end of its lease, and what it is asked
// to do in the name of its old epoch when it wakes is refused.
func (s *script) pause(ctx context.Context) error {
	m, st, err := s.AwaitActive(ctx, 0)
	if err != nil {
		return err
	}
	s.Printf("pause %s, the Active with token %s (SIGSTOP)", m.Name, st.Token)
	stopped := time.Now()
	if err := m.Pause(); err != nil {
		return err
	}
	defer m.Resume()
	a, err := s.next(ctx, st.Epoch)
	if err != nil {
		return err
	}
	s.Printf("%s is Active in epoch %d: its first increment acknowledged %s after the pause; clients wait %v for %s's answers",
		a.Member, a.Epoch, ms(a.at.Sub(stopped)), demo.Attempt, m.Name)
	if err := m.Resume(); err != nil {
		return err
	}
	code, answer, err := s.Client.PostTo(ctx, m, "/add?n=1000000&id=late/1&token="+url.QueryEscape(st.Token))
	if err != nil {
		return err
	}
	s.Printf("wake %s and have it add 1,000,000 with token %s: %d %s", m.Name, st.Token, code, answer)
	if code != http.StatusConflict {
		return fmt.Errorf("a late append of %s was answered %d %s, not 409", m.Name, code, answer)
	}
	return s.AwaitIndex(ctx, m, a.Index)
}

// verify compares what the clients know with what each member holds.
func (s *script) verify(ctx context.Context) (string, error) {
	s.mu.Lock()
	err, last, epochs := s.err, s.last, len(s.first)
	s.mu.Unlock()
	acked := s.acked.Load()
	for _, m := range s.Members {
		if err := s.AwaitIndex(ctx, m, last.Index); err != nil {
			return "", err
		}
		var v struct {
			Value  int64
			Client tally
		}
		wrong := func(format string, args ...any) {
			err = errors.Join(err, fmt.Errorf("%s: "+format, append([]any{m.Name}, args...)...))
		}
		for w := 1; w <= writers; w++ {
			if err := s.Client.Get(ctx, m, fmt.Sprintf("/value?client=w%d", w), &v); err != nil {
				return "", err
			}
			if sent := s.result[w].sent; v.Client != (tally{sent, int64(sent)}) {
				wrong("client w%d had %d increments acknowledged, counted are %d, the last is number %d", w, sent, v.Client.Sum, v.Client.Seq)
			}
		}
		if err := s.Client.Get(ctx, m, "/value?client=late", &v); err != nil {
			return "", err
		}
		if v.Client != (tally{}) {
			wrong("the late append was counted")
		}
		if v.Value != acked {
			wrong("the value is %d, acknowledged were %d", v.Value, acked)
		}
		s.Printf("%s: value %s, acknowledged %s", m.Name, demo.Thousands(v.Value), demo.Thousands(acked))
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s increments acknowledged, through %d epochs, and each counted once on a, b and c:\n"+
		"      per member, the value and the sum and last number of each of the %d clients were compared.\n"+
		"      The append of the woken Active was refused as fenced and is on no member.",
		demo.Thousands(acked), epochs, writers), nil
}

// ms writes a duration in milliseconds.
func ms(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
