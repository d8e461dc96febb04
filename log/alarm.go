package log

import (
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/moment"
)

// An alarm wakes the loop, which sleeps again and again, mostly until the same time: for that it is set once.
type alarm struct {
	moment.Alarm
	at   time.Duration // for which it is set, on the loop's clock
	rang atomic.Bool   // since it was set
}

// newSystemAlarm is another one where tests have a clock of their own.
var newSystemAlarm = moment.NewAlarm

func newAlarm(wake chan struct{}) *alarm {
	a := new(alarm)
	a.Alarm = newSystemAlarm(func() {
		a.rang.Store(true)
		token(wake)
	})
	return a
}

// sleep returns when there is a token in wake, which there is after a while, at a time on the loop's clock, and perhaps earlier.
func (a *alarm) sleep(wake <-chan struct{}, at, while time.Duration) {
	if a.rang.Swap(false) || at != a.at {
		a.at = at
		a.Set(while)
	}
	<-wake
}
