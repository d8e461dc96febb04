package log

import "time"

// An alarm wakes the loop, which sleeps again and again, mostly until the same time. The runtime wakes a process also for a timer that was set
// later or stopped meanwhile, if it stood first among all; one that is new it adds only after it has taken those away. So a timer is left alone as long as
// it is right, and a new one takes its place when it should be later. What is sooner has a timer of its own meanwhile.
type alarm struct {
	timer  *time.Timer
	at     time.Duration // when it rings, on the loop's clock; 0: it has
	sooner *time.Timer
}

func newAlarm() *alarm {
	a := &alarm{timer: time.NewTimer(0), sooner: time.NewTimer(0)}
	a.timer.Stop()
	a.sooner.Stop()
	return a
}

// sleep returns when there is a token in wake, or after a while, at a time on the loop's clock, and perhaps earlier.
func (a *alarm) sleep(wake <-chan struct{}, at, while time.Duration) {
	var sooner <-chan time.Time
	switch {
	case a.at == 0 || at > a.at:
		a.timer.Stop()
		a.timer, a.at = time.NewTimer(while), at
	case at < a.at:
		a.sooner.Reset(while)
		sooner = a.sooner.C
	}
	select {
	case <-wake:
	case <-a.timer.C:
		a.at = 0
	case <-sooner:
	}
}

func (a *alarm) stop() {
	a.timer.Stop()
	a.sooner.Stop()
}
