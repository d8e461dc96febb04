package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/baton-ha/baton/examples/internal/demo"
)

const (
	producers = 4
	workers   = 8
	backlog   = 100              // jobs that producers let wait at most
	leaseFor  = 3 * time.Second  // what a worker asks for
	attempts  = 5                // before a job is dead
	drained   = 30 * time.Second // bounds the time for the last jobs
	poison    = "a job that no worker can do"
)

// A script is the demonstration: producers and workers, and what happens to the Active meanwhile.
type script struct {
	*demo.Cluster
	web     bool // the members' pages are to be looked at
	clients sync.WaitGroup

	mu     sync.Mutex // guards all below
	pushed map[uint64]bool
	acked  map[uint64]bool
	last   answer // of the newest epoch
	first  map[uint64]time.Time
	back   map[uint64]job // that were given out more than once, as last given out
	late   int            // acks that came after the lease had ended
	err    error
}

// An answer is what a push is answered.
type answer struct {
	ID, Epoch uint64
	Member    string
}

func runDemo(web bool) int {
	return demo.Run("queue", func(ctx context.Context, c *demo.Cluster) (string, error) {
		s := &script{
			Cluster: c, web: web, pushed: map[uint64]bool{}, acked: map[uint64]bool{},
			first: map[uint64]time.Time{}, back: map[uint64]job{},
		}
		return s.run(ctx)
	}, "-checkpoint", "65536", "-attempts", fmt.Sprint(attempts))
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
	s.Printf("%s is Active in epoch %d; %d producers and %d workers begin", m.Name, st.Epoch, producers, workers)

	working, endWork := context.WithCancel(ctx)
	defer endWork()
	pushing, endPush := context.WithCancel(ctx)
	defer endPush()
	var pushers sync.WaitGroup
	for p := 1; p <= producers; p++ {
		pushers.Go(func() { s.produce(ctx, pushing, p) })
	}
	for w := 1; w <= workers; w++ {
		s.clients.Go(func() { s.work(ctx, working, fmt.Sprintf("w%d", w)) })
	}
	s.clients.Go(func() { s.show(working) })

	var bad answer
	if code, err := s.Client.Post(ctx, "/push?key=poison", poison, &bad); err != nil || code != http.StatusOK {
		return "", fmt.Errorf("push: HTTP status %d, %v", code, err)
	}
	for _, step := range []func(context.Context) error{s.abandon, s.kill} {
		if err := demo.Pace(ctx, 2*time.Second); err != nil {
			return "", err
		}
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	if err := demo.Pace(ctx, 2*time.Second); err != nil {
		return "", err
	}
	endPush()
	pushers.Wait()
	s.Printf("the producers have stopped; the workers finish what is left")
	if err := s.drain(ctx); err != nil {
		return "", err
	}
	endWork()
	s.clients.Wait()
	return s.verify(ctx, bad.ID)
}

// produce pushes jobs, each with a key, again and again until it is acknowledged.
func (s *script) produce(ctx, pushing context.Context, p int) {
	for n := 1; pushing.Err() == nil; n++ {
		// Without a bound, producers that are faster than the workers would fill the queue.
		waiting := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.pushed) - len(s.acked) }
		if demo.Await(pushing, "the workers keep up", drained, func() bool { return waiting() < backlog }) != nil {
			return
		}
		var a answer
		code, err := s.Client.Post(ctx, fmt.Sprintf("/push?key=p%d-%d", p, n), fmt.Sprintf("job %d of producer %d", n, p), &a)
		if err != nil || code != http.StatusOK {
			s.fail(fmt.Errorf("producer %d: push %d: HTTP status %d, %v", p, n, code, err))
			return
		}
		s.mu.Lock()
		if s.pushed[a.ID] {
			s.err = errors.Join(s.err, fmt.Errorf("two jobs were given the id %d", a.ID))
		}
		s.pushed[a.ID] = true
		if _, ok := s.first[a.Epoch]; !ok {
			s.first[a.Epoch] = time.Now()
		}
		if a.Epoch >= s.last.Epoch {
			s.last = a
		}
		s.mu.Unlock()
	}
}

// work is one worker: take, do, ack.
func (s *script) work(ctx, working context.Context, name string) {
	for working.Err() == nil {
		var j job
		code, err := s.Client.Post(working, fmt.Sprintf("/take?worker=%s&wait=500ms&lease=%v", name, leaseFor), "", &j)
		if code == http.StatusNoContent || working.Err() != nil {
			continue
		}
		if err != nil || code != http.StatusOK {
			s.fail(fmt.Errorf("worker %s: take: HTTP status %d, %v", name, code, err))
			return
		}
		verb := "ack"
		if j.Body == poison {
			verb = "nack"
		}
		code, err = s.Client.Post(ctx, fmt.Sprintf("/%s?id=%d&lease=%d", verb, j.ID, j.Lease), "", nil)
		if err != nil || code != http.StatusOK && code != http.StatusGone {
			s.fail(fmt.Errorf("worker %s: %s job %d: HTTP status %d, %v", name, verb, j.ID, code, err))
			return
		}
		s.mu.Lock()
		switch {
		case code == http.StatusGone:
			s.late++
		case verb == "ack":
			if s.acked[j.ID] {
				s.err = errors.Join(s.err, fmt.Errorf("job %d was acked twice", j.ID))
			}
			s.acked[j.ID] = true
		}
		if j.Attempts > 1 {
			s.back[j.ID] = j
		}
		s.mu.Unlock()
	}
}

func (s *script) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// show prints who is Active, and how much is done.
func (s *script) show(ctx context.Context) {
	for demo.Pace(ctx, 2*time.Second) == nil {
		s.mu.Lock()
		a, pushed, acked := s.last, len(s.pushed), len(s.acked)
		s.mu.Unlock()
		s.Printf("  %s Active, epoch %d: %7s pushed, %7s acked", a.Member, a.Epoch, demo.Thousands(pushed), demo.Thousands(acked))
	}
}

// abandon is a worker that dies with a job.
func (s *script) abandon(ctx context.Context) error {
	var j job
	const lease = 1500 * time.Millisecond
	for tries := 0; j.ID == 0 || j.Body == poison; tries++ {
		j = job{}
		code, err := s.Client.Post(ctx, fmt.Sprintf("/take?worker=doomed&wait=500ms&lease=%v", lease), "", &j)
		if err != nil || tries > 100 {
			return fmt.Errorf("take: HTTP status %d, %v", code, err)
		}
	}
	at := time.Now()
	s.Printf("a worker takes job %d for %v and dies with it", j.ID, lease)
	var again job
	if err := demo.Await(ctx, "the job comes back", 20*time.Second, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		again = s.back[j.ID]
		return s.acked[j.ID]
	}); err != nil {
		return err
	}
	s.Printf("job %d came back and was done by worker %s, attempt %d, %d ms later", j.ID, again.Worker, again.Attempts, time.Since(at).Milliseconds())
	return nil
}

func (s *script) kill(ctx context.Context) error {
	m, st, err := s.AwaitActive(ctx, 0)
	if err != nil {
		return err
	}
	s.Printf("kill -9 %s, the Active of epoch %d", m.Name, st.Epoch)
	killed := m.Kill()
	var next answer
	var at time.Time
	if err := demo.Await(ctx, "a push is acknowledged in the next epoch", 20*time.Second, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		next, at = s.last, s.first[s.last.Epoch]
		return next.Epoch > st.Epoch
	}); err != nil {
		return err
	}
	s.Printf("%s is Active in epoch %d: its first push acknowledged %d ms after the kill", next.Member, next.Epoch, at.Sub(killed).Milliseconds())
	if err := m.Start(); err != nil {
		return err
	}
	restarted := time.Now()
	if err := s.AwaitIndex(ctx, m, next.ID); err != nil {
		return err
	}
	var have stats
	if err := s.Client.Get(ctx, m, "/stats", &have); err != nil {
		return err
	}
	s.Printf("%s was started again, from its snapshot up to record %s, and has caught up with record %s, %d ms later",
		m.Name, demo.Thousands(have.Restored), demo.Thousands(have.Index), time.Since(restarted).Milliseconds())
	if have.Restored == 0 {
		return fmt.Errorf("%s did not begin with a snapshot", m.Name)
	}
	return nil
}

// drain waits until nothing is left to do, also what was given out to nobody: a take whose answer was
// lost with the Active comes back when its lease ends.
func (s *script) drain(ctx context.Context) error {
	return demo.Await(ctx, "the queue is empty", drained, func() bool {
		quick, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		m, _, err := s.AwaitActive(quick, 0)
		var have stats
		return err == nil && s.Client.Get(quick, m, "/stats", &have) == nil && have.Ready == 0 && have.Leased == 0
	})
}

// verify compares what producers and workers know with what each member holds.
func (s *script) verify(ctx context.Context, bad uint64) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	wrong := func(format string, args ...any) { err = errors.Join(err, fmt.Errorf(format, args...)) }
	for id := range s.pushed {
		if !s.acked[id] {
			wrong("job %d was pushed and never acked", id)
		}
	}
	for id := range s.acked {
		if !s.pushed[id] {
			wrong("job %d was acked and never pushed", id)
		}
	}
	jobs := uint64(len(s.pushed))
	var newest uint64
	var have stats
	for _, m := range s.Members {
		if err := s.Client.Get(ctx, m, "/stats", &have); err != nil {
			return "", err
		}
		newest = max(newest, have.Index)
	}
	for _, m := range s.Members {
		if err := s.AwaitIndex(ctx, m, newest); err != nil {
			return "", err
		}
		have = stats{}
		if err := s.Client.Get(ctx, m, "/stats", &have); err != nil {
			return "", err
		}
		s.Printf("%s: %s pushed, %s acked, %d ready, %d leased, %d dead", m.Name, demo.Thousands(have.Pushed),
			demo.Thousands(have.Acked), have.Ready, have.Leased, len(have.Dead))
		if have.Pushed != jobs+1 || have.Acked != jobs || have.Ready != 0 || have.Leased != 0 {
			wrong("%s: producers and workers know of %d jobs pushed and acked, and one that is dead", m.Name, jobs)
		}
		if len(have.Dead) != 1 || have.Dead[0].ID != bad || have.Dead[0].Attempts != attempts {
			wrong("%s: job %d should be the only dead one, after %d attempts", m.Name, bad, attempts)
		}
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s jobs pushed, and each acked exactly once, as a, b and c agree; one that nobody could do\n"+
		"      was set aside after %d attempts. Delivery is at least once: the %s jobs were given out %s times,\n"+
		"      leases that ended without an ack: %d, acks that came too late and were refused: %d.",
		demo.Thousands(jobs), attempts, demo.Thousands(jobs+1), demo.Thousands(have.Taken), have.Expired, s.late), nil
}
