// Package moment is for what waits for a time in a process that has nothing to do. Each time that such a process is woken costs more than what it
// then has to do: its threads wake one another, look for work, and sleep again. So what members do now and then they do at the same moments
// (a [Ticker]), and what is waited for wakes nobody else (an [Alarm]).
package moment

import (
	"sync"
	"time"
)

// A Ticker does something at each of the moments that are so far apart, by the clock on the wall. Moments of one interval are
// moments of each one that it is a multiple of, and where clocks agree those of all members: what they say to one another then arrives while they
// are awake to say the same.
type Ticker struct {
	C     <-chan struct{} // gets a token at each moment, of [NewTicker]; size 1
	do    func()
	every time.Duration
	at    time.Duration // the next moment; guarded by the clock's mutex
}

// NewTicker returns a ticker that leaves tokens in C, until it is stopped.
func NewTicker(every time.Duration) *Ticker {
	c := make(chan struct{}, 1)
	t := Every(every, func() {
		select {
		case c <- struct{}{}:
		default:
		}
	})
	t.C = c
	return t
}

// Every returns a ticker that calls do, until it is stopped: in the one goroutine that does so for all, which it must not hold up.
func Every(every time.Duration, do func()) *Ticker {
	t := &Ticker{do: do, every: every}
	process.add(t, wall())
	return t
}

// Stop lets it do nothing more. What it does may be under way.
func (t *Ticker) Stop() { process.remove(t) }

// process is the clock of all tickers of the process.
var process clock

// A clock lets tickers tick. It has an alarm as long as there are any.
type clock struct {
	mu      sync.Mutex // guards what follows
	tickers map[*Ticker]struct{}
	alarm   Alarm
	at      time.Duration // for which it is set; 0: it has rung
}

func (c *clock) add(t *Ticker, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm == nil {
		c.tickers, c.alarm, c.at = map[*Ticker]struct{}{}, NewAlarm(func() { c.ring(wall()) }), 0
	}
	t.at = now + next(now, t.every)
	c.tickers[t] = struct{}{}
	c.setLocked(now)
}

func (c *clock) remove(t *Ticker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tickers, t)
	if len(c.tickers) == 0 && c.alarm != nil {
		c.alarm.Close()
		c.alarm = nil
	}
}

// ring does what is due.
func (c *clock) ring(now time.Duration) {
	var due []*Ticker
	c.mu.Lock()
	for t := range c.tickers {
		if t.due(now) {
			t.at = now + next(now, t.every)
			due = append(due, t)
		}
	}
	c.at = 0
	c.setLocked(now)
	c.mu.Unlock()
	for _, t := range due {
		t.do()
	}
}

// setLocked sets the alarm to the next moment, unless it is.
func (c *clock) setLocked(now time.Duration) {
	var at time.Duration
	for t := range c.tickers {
		if at == 0 || t.at < at {
			at = t.at
		}
	}
	if at != 0 && (c.at <= now || at < c.at) {
		c.at = at
		c.alarm.Set(at - now)
	}
}

// due reports whether the moment has come, or is very near; or is further away than it can be, because the clock was set back.
func (t *Ticker) due(now time.Duration) bool {
	left := t.at - now
	return left < t.every/8 || left > t.every+t.every/8
}

// wall is the clock on the wall.
func wall() time.Duration { return time.Duration(time.Now().UnixNano()) }

// next is how long it is until the next of the moments. It leaves out one that is very near: it is the one for which the alarm has rung, by a clock that is
// a little ahead of the wall's.
func next(at, every time.Duration) time.Duration {
	until := every - at%every
	if until < every/8 {
		until += every
	}
	return until
}
