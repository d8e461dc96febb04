package admin

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file keeps the events of all members, by reading along with each, so that every member's page has the same history. Who is
// not reached has said what it had said before, and what its directory remembers comes when it is back.

const (
	maxEvents  = 1024            // of each member that are kept
	askAgain   = 2 * time.Second // after a member was not reached
	maxFollows = 64              // members that are read along with
	maxRuns    = 4096            // processes of a member of which it is known what they had said
)

// chronicle has the events of the members that are listed.
type chronicle struct {
	mu      sync.Mutex // guards what follows
	of      map[string]*heard
	version uint64
	known   ha.Explanation // of the events of a version
	at      uint64
}

// heard is what one member has said.
type heard struct {
	cancel context.CancelFunc
	events []ha.Event
	seq    map[int64]uint64 // number of the last event of each of its processes
}

// tend reads along with who is listed, and no more with who is not. It is called by one goroutine.
func (c *chronicle) tend(ctx context.Context, n Node, work *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]*heard{}
	}
	listed := map[string]bool{}
	for _, m := range n.Members() {
		if len(listed) == maxFollows {
			break
		}
		listed[m.Name] = true
		if c.of[m.Name] == nil {
			own, cancel := context.WithCancel(ctx)
			x := &heard{cancel: cancel, seq: map[int64]uint64{}}
			c.of[m.Name] = x
			work.Go(func() { c.follow(own, n, m.Name, x) })
		}
	}
	for name, x := range c.of {
		if !listed[name] {
			x.cancel()
			delete(c.of, name)
			c.version++
		}
	}
}

// follow reads along with a member.
func (c *chronicle) follow(ctx context.Context, n Node, name string, x *heard) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		for e, err := range n.EventsOf(ctx, name, true) {
			if err == nil {
				c.take(x, e)
			}
		}
		again.Reset(askAgain)
	}
}

// take notes an event, unless it is one that came before.
func (c *chronicle) take(x *heard, e ha.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Seq <= x.seq[e.Run] {
		return
	}
	if len(x.events) >= 2*maxEvents {
		x.events = append(x.events[:0], x.events[maxEvents:]...)
	}
	if len(x.seq) >= maxRuns {
		clear(x.seq)
		for _, e := range x.events {
			x.seq[e.Run] = e.Seq
		}
	}
	x.seq[e.Run] = e.Seq
	x.events = append(x.events, e)
	c.version++
}

// explain says what the events say together, and in which version of them. What it returns is shared: nobody may change it.
func (c *chronicle) explain() (ha.Explanation, uint64) {
	c.mu.Lock()
	if c.at == c.version {
		defer c.mu.Unlock()
		return c.known, c.at
	}
	version := c.version
	var all []ha.Event
	for _, x := range c.of {
		all = append(all, x.events[max(0, len(x.events)-maxEvents):]...)
	}
	c.mu.Unlock()
	x := ha.ExplainEvents(all)
	c.mu.Lock()
	defer c.mu.Unlock()
	if version >= c.at {
		c.known, c.at = x, version
	}
	return x, version
}

// newest returns the last events, newest first.
func newest(events []ha.Event, most int) []ha.Event {
	last := slices.Clone(events[max(0, len(events)-most):])
	slices.Reverse(last)
	return last
}
