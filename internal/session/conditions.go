package session

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	maxConditions = 256 // that are kept; their keys are of our making, so that strangers cannot add to them
	maxVariants   = 8   // texts of one condition that are told apart
	sayBudget     = 3   // changes that are said before the next pause is over
	forgetAfter   = 10 * time.Minute
)

// The lines of this package that are said again and again when something is wrong.
const (
	lineTLS       = "no new TLS configuration, the last one is used"
	lineTakenBack = "connection ended: its certificate is not accepted any more"
	lineNotJudged = "connection goes on, though nobody says whether its certificate is still accepted"
)

// sayPauses are the times after which what still goes on is said again.
var sayPauses = [...]time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// Conditions are what goes wrong again and again, each time somebody dials. Each is said once, then counted, and said again
// when it changes, or, with the count, after growing pauses. A few changes are said at once; what changes all the time is
// counted, too.
type Conditions struct {
	logger *slog.Logger
	now    func() time.Time

	mu   sync.Mutex // guards what follows
	held map[conditionKey]*condition
}

// conditionKey is one condition: what is said of whom. who is a peer's name, or a kind of stranger.
type conditionKey struct{ what, who string }

type condition struct {
	on     bool // it lasts
	said   bool // and was said since it began
	texts  []string
	count  int       // since it was said last
	budget int       // changes that are still said at once
	level  int       // of the next pause
	next   time.Time // when it is said again
	last   time.Time // when it happened last
}

// NewConditions returns what says things to a logger.
func NewConditions(logger *slog.Logger) *Conditions {
	return &Conditions{logger: logger, now: time.Now, held: map[conditionKey]*condition{}}
}

// Say notes that something happened. text tells its variants apart, and is free of what is different each time.
func (c *Conditions) Say(level slog.Level, what, who, text string, attrs ...any) {
	if count, ok := c.note(conditionKey{what, who}, text); ok {
		if count > 1 {
			attrs = append(attrs, "times", count)
		}
		c.logger.Log(context.Background(), level, what, attrs...)
	}
}

// note counts, and says whether it is to be said.
func (c *Conditions) note(key conditionKey, text string) (count int, say bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[key]
	if h == nil {
		c.makeRoomLocked(now)
		h = &condition{budget: sayBudget}
		c.held[key] = h
	} else if now.Sub(h.last) > forgetAfter && (!h.on || now.After(h.next)) {
		*h = condition{budget: sayBudget, count: h.count}
	}
	known := slices.Contains(h.texts, text)
	if !known && len(h.texts) < maxVariants {
		h.texts = append(h.texts, text)
	}
	change := !h.on || !known
	h.on, h.last = true, now
	h.count++
	if due := !now.Before(h.next); !due {
		if !change || h.budget == 0 {
			return 0, false
		}
		h.budget--
	}
	count, h.count = h.count, 0
	h.said = true
	h.next = now.Add(sayPauses[h.level])
	h.level = min(h.level+1, len(sayPauses)-1)
	return count, true
}

// Over notes that a condition has ended, and reports whether it had been said.
func (c *Conditions) Over(what, who string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[conditionKey{what, who}]
	if h == nil || !h.on {
		return false
	}
	said := h.said
	h.on, h.said, h.last = false, false, c.now()
	return said
}

// Held is how many are remembered.
func (c *Conditions) Held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held)
}

// makeRoomLocked forgets what is over for long, and, where that is not enough, everything.
func (c *Conditions) makeRoomLocked(now time.Time) {
	if len(c.held) < maxConditions {
		return
	}
	for key, h := range c.held {
		if now.Sub(h.last) > forgetAfter {
			delete(c.held, key)
		}
	}
	if len(c.held) >= maxConditions {
		clear(c.held)
	}
}
