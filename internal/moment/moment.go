// Package moment lets what members do now and then be done at the same moments. Each time that a process that sleeps is woken costs
// more than what it then has to do: its threads wake one another, look for work, and sleep again.
package moment

import "time"

// Next is how long it is until the next of the moments that are so far apart, by the clock on the wall. Moments of one interval are
// moments of each one that it is a multiple of, and where clocks agree those of all members: what they say to one another then arrives while they
// are awake to say the same. A timer that is set to it, again each time that it has fired, is a ticker.
func Next(every time.Duration) time.Duration {
	return next(time.Duration(time.Now().UnixNano()), every)
}

// next leaves out a moment that is very near: it is the one for which the timer has fired, by a clock that is a little ahead of the wall's.
func next(at, every time.Duration) time.Duration {
	until := every - at%every
	if until < every/8 {
		until += every
	}
	return until
}
