package harness

import (
	"context"
	"sync"
)

// A Gatherer is group commit at its barest: while one batch is committed, the next one gathers. The floors use it.
type Gatherer struct {
	commit func(batch []byte) error
	wake   chan struct{} // size 1
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	batch   []byte
	waiting []chan error
	closed  bool
}

var waiters = sync.Pool{New: func() any { return make(chan error, 1) }}

// NewGatherer starts the loop that calls commit.
func NewGatherer(commit func(batch []byte) error) *Gatherer {
	g := &Gatherer{commit: commit, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go g.run()
	return g
}

// Append adds the payload to the next batch and waits for it.
func (g *Gatherer) Append(_ context.Context, payload []byte) error {
	w := waiters.Get().(chan error)
	g.mu.Lock()
	g.batch = append(g.batch, payload...)
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	g.poke()
	err := <-w
	waiters.Put(w)
	return err
}

func (g *Gatherer) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *Gatherer) run() {
	defer close(g.done)
	var batch []byte
	var waiting []chan error
	for range g.wake {
		g.mu.Lock()
		batch, g.batch = g.batch, batch[:0]
		waiting, g.waiting = g.waiting, waiting[:0]
		closed := g.closed
		g.mu.Unlock()
		if len(waiting) > 0 {
			err := g.commit(batch)
			for _, w := range waiting {
				w <- err
			}
		}
		if closed {
			return
		}
	}
}

// Close waits for the loop. No Append may be under way.
func (g *Gatherer) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.poke()
	<-g.done
}
