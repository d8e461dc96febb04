package log

import (
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/moment"
)

// An alarm wakes the loop, which sleeps again and again, mostly until the same time: for that it is set once, and what is sooner has a timer meanwhile. That is
// what a batch waits for its crowd, on a busy member: nobody is to be spared there, and Go's timers come first where all processors have work.
type alarm struct {
	moment.Alarm
	at     time.Duration // for which it is set, on the loop's clock
	rang   atomic.Bool   // since it was set
	sooner *time.Timer
}

// newSystemAlarm is another one where tests have a clock of their own.
var newSystemAlarm = moment.NewAlarm

func newAlarm(wake chan struct{}) *alarm {
	a := &alarm{sooner: time.NewTimer(0)}
	a.sooner.Stop()
	a.Alarm = newSystemAlarm(func() {
		a.rang.Store(true)
		token(wake)
	})
	return a
}

// sleep returns when there is a token in wake, or after a while, at a time on the loop's clock, and perhaps earlier.
func (a *alarm) sleep(wake <-chan struct{}, at, while time.Duration) {
	var sooner <-chan time.Time
	switch {
	case a.rang.Swap(false) || at > a.at:
		a.at = at
		a.Set(while)
	case at < a.at:
		a.sooner.Reset(while)
		sooner = a.sooner.C
	}
	select {
	case <-wake:
	case <-sooner:
	}
}

func (a *alarm) Close() {
	a.Alarm.Close()
	a.sooner.Stop()
}
