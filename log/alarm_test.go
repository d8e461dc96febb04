package log

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, wake, begin := newAlarm(), make(chan struct{}, 1), time.Now()
		defer a.stop()
		sleep := func(at, until time.Duration) {
			t.Helper()
			a.sleep(wake, at, at-time.Since(begin))
			if got := time.Since(begin); got != until {
				t.Fatalf("woken at %v, not at %v", got, until)
			}
		}
		const ms = time.Millisecond
		sleep(10*ms, 10*ms)
		time.AfterFunc(5*ms, func() { wake <- struct{}{} })
		sleep(30*ms, 15*ms)
		left := a.timer
		sleep(20*ms, 20*ms) // sooner
		if a.timer != left {
			t.Fatal("a timer that was right was replaced")
		}
		sleep(40*ms, 40*ms) // later
		time.AfterFunc(1*ms, func() { wake <- struct{}{} })
		sleep(60*ms, 41*ms)
		left = a.timer
		sleep(60*ms, 60*ms)
		if a.timer != left {
			t.Fatal("a timer that was right was replaced")
		}
		sleep(70*ms, 70*ms)
	})
}
