package log

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/baton-ha/baton/internal/moment"
)

func init() { newSystemAlarm = moment.NewTimerAlarm } // most tests here have their own clock

// countedAlarm says when it was set.
type countedAlarm struct {
	moment.Alarm
	sets []time.Duration
}

func (a *countedAlarm) Set(in time.Duration) {
	a.sets = append(a.sets, in)
	a.Alarm.Set(in)
}

func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{}, 1)
		a, begin := newAlarm(wake), time.Now()
		defer a.Close()
		counted := &countedAlarm{Alarm: a.Alarm}
		a.Alarm = counted
		const ms = time.Millisecond
		for _, test := range []struct{ mail, at, until, set time.Duration }{ // mail comes before it sleeps until a time; then it is woken, having set the alarm
			{0, 10, 10, 10},
			{15, 30, 15, 20},
			{17, 30, 17, 0}, // it is right
			{0, 20, 20, 0},  // sooner
			{0, 40, 40, 20}, // later
			{41, 60, 41, 20},
			{0, 60, 60, 0},
			{0, 61, 61, 1},
			{0, 61, 62, 1}, // it has rung, by a clock that is ahead of the loop's
		} {
			if test.mail != 0 {
				time.AfterFunc(test.mail*ms-time.Since(begin), func() { token(wake) })
			}
			counted.sets = nil
			a.sleep(wake, test.at*ms, max(1*ms, test.at*ms-time.Since(begin)))
			var sets []time.Duration
			if test.set != 0 {
				sets = append(sets, test.set*ms)
			}
			if got := time.Since(begin); got != test.until*ms || !slices.Equal(counted.sets, sets) {
				t.Fatalf("%v: woken at %v, having set the alarm in %v", test, got, counted.sets)
			}
		}
	})
}
