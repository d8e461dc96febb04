package moment

import "time"

// An Alarm calls a function, in a goroutine of its own, when a time has passed that may be set again and again. Set and Close are called by
// one goroutine at a time.
type Alarm interface {
	// Set lets it ring once after a while, which takes the place of what was set before. It may ring for that, too, if that is over just now.
	Set(in time.Duration)
	// Close lets it ring no more. The function may still be running.
	Close()
}

// NewAlarm returns an alarm that wakes nothing but the goroutine that is to be woken. A timer of package time costs a process that has nothing to do five
// wakes of threads: the runtime waits in whole milliseconds, rounded down, so it wakes too early and waits once more, and its monitor wakes with it and
// looks on, every 20 µs, until all is quiet again. One that was moved to a later time wakes it at the earlier one as well. So where the
// system has timers that are waited for as connections are, it is one of those.
func NewAlarm(ring func()) Alarm {
	if a := newSystemAlarm(ring); a != nil {
		return a
	}
	return NewTimerAlarm(ring)
}

// NewTimerAlarm returns an alarm that is a timer of package time.
func NewTimerAlarm(ring func()) Alarm { return &timerAlarm{ring: ring} }

type timerAlarm struct {
	ring  func()
	timer *time.Timer
}

// Set makes a new timer: adding it to the others the runtime takes away those that were stopped, and does not wake for them.
func (a *timerAlarm) Set(in time.Duration) {
	a.Close()
	a.timer = time.AfterFunc(in, a.ring)
}

func (a *timerAlarm) Close() {
	if a.timer != nil {
		a.timer.Stop()
	}
}
