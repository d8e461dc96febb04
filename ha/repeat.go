package ha

import (
	"slices"
	"sync"
	"time"
)

// This file says what fails again and again once, and then after growing pauses with how often it did.

const (
	minRepeatPause = 10 * time.Second
	maxRepeatTexts = 3  // that are said without a pause: a text may differ each time
	maxRepeats     = 64 // kinds of failures that are known; those of a member are fewer
)

// repeats are the failures that were said. The zero value is ready.
type repeats struct {
	mu sync.Mutex // guards what follows
	of map[string]*repeat
}

// A repeat is one kind of failure.
type repeat struct {
	said  said
	texts []string        // that were said in this pause
	text  string          // of the last one
	line  func(times int) // says the last one, if it was not said yet
}

// note takes note of a failure, and reports whether it is to be said now, and for how many. If it is not, line will say it at the end of the
// pause, unless another comes before, which then is the last.
func (r *repeats) note(now time.Time, kind, text string, line func(times int)) (times int, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.noteLocked(kind)
	if x == nil {
		return 1, true
	}
	times, wait := x.said.say(now)
	switch {
	case wait == 0:
		x.texts = x.texts[:0]
	case len(x.texts) < maxRepeatTexts && !slices.Contains(x.texts, text):
		times, x.said.times = x.said.times, 0
	default:
		x.text, x.line = text, line
		r.lookLocked(x, wait)
		return 0, false
	}
	x.texts, x.line = append(x.texts, text), nil
	return times, true
}

// noteSaid takes note of a failure that is said in any case, and returns for how many.
func (r *repeats) noteSaid(now time.Time, kind, text string) (times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.noteLocked(kind)
	if x == nil {
		return 1
	}
	times, wait := x.said.say(now)
	if wait > 0 {
		times, x.said.times = x.said.times, 0
	}
	x.texts, x.line = append(x.texts[:0], text), nil
	return times
}

// noteLocked counts a failure. It returns nil where there are too many kinds.
func (r *repeats) noteLocked(kind string) *repeat {
	x := r.of[kind]
	switch {
	case x == nil && len(r.of) >= maxRepeats:
		return nil
	case x == nil:
		if r.of == nil {
			r.of = make(map[string]*repeat)
		}
		x = &repeat{said: said{least: minRepeatPause}}
		r.of[kind] = x
	}
	x.said.times++
	return x
}

// lookLocked looks at a failure again in some time.
func (r *repeats) lookLocked(x *repeat, wait time.Duration) {
	if !x.said.timer {
		x.said.timer = true
		time.AfterFunc(wait, func() { r.late(x, time.Now()) })
	}
}

// late says at the end of a pause what was there in it.
func (r *repeats) late(x *repeat, now time.Time) {
	r.mu.Lock()
	x.said.timer = false
	line := x.line
	if line == nil {
		r.mu.Unlock()
		return
	}
	times, wait := x.said.say(now)
	if wait > 0 {
		r.lookLocked(x, wait)
	} else {
		x.line, x.texts = nil, append(x.texts[:0], x.text)
	}
	r.mu.Unlock()
	if wait == 0 {
		line(times)
	}
}
