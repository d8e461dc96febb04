package session

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// maxNews bounds what waits to be told. Of what has a key there is one each; only refusals can be many.
const maxNews = 256

// teller tells the program what it wants to know, from a goroutine that is there while something is to be told: whoever has
// the news waits for nobody, and may hold any lock.
type teller struct {
	logger *slog.Logger

	running sync.WaitGroup
	mu      sync.Mutex // guards what follows
	waiting []news
	busy    bool
	closed  bool
}

type news struct {
	key  string // what has the same key is out of date; empty: nothing is
	tell func()
}

func (t *teller) add(n news) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.key != "" {
		t.waiting = slices.DeleteFunc(t.waiting, func(o news) bool { return o.key == n.key })
	}
	if t.closed || len(t.waiting) >= maxNews {
		return
	}
	t.waiting = append(t.waiting, n)
	if !t.busy {
		t.busy = true
		t.running.Add(1)
		go t.run()
	}
}

// run tells what waits. A callback that panics, or ends the goroutine, ends nothing else.
func (t *teller) run() {
	for {
		t.mu.Lock()
		if len(t.waiting) == 0 {
			t.busy = false
			t.mu.Unlock()
			t.running.Done()
			return
		}
		n := t.waiting[0]
		t.waiting = slices.Delete(t.waiting, 0, 1)
		t.mu.Unlock()
		if !t.one(n) {
			return
		}
	}
}

// one says whether the goroutine goes on.
func (t *teller) one(n news) (goesOn bool) {
	defer func() {
		if p := recover(); p != nil {
			goesOn = true
			t.logger.Error("callback has panicked", "panic", fmt.Sprint(p))
		} else if !goesOn {
			go t.run() // the callback has ended this one
		}
	}()
	n.tell()
	return true
}

// close waits until all is told.
func (t *teller) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
}
