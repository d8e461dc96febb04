package moment

import (
	"slices"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	for _, test := range []struct{ at, every, want time.Duration }{
		{0, 240, 240},
		{1, 240, 239},
		{210, 240, 30},
		{211, 240, 269}, // the moment is near, so it is the next one
		{239, 240, 241},
		{240, 240, 240},
		{240, 480, 240},
		{1201, 240, 239},
		{1201, 480, 239},
		{1401, 240, 39},
		{1401, 480, 519},
	} {
		if got := next(test.at, test.every); got != test.want {
			t.Errorf("at %d it is %d until the next of the moments every %d, not %d", test.at, got, test.every, test.want)
		}
	}
}

// A fakeAlarm says for what it was set.
type fakeAlarm struct{ sets []time.Duration }

func (a *fakeAlarm) Set(in time.Duration) { a.sets = append(a.sets, in) }
func (a *fakeAlarm) Close()               { a.sets = append(a.sets, -1) }

func TestClock(t *testing.T) {
	alarm := new(fakeAlarm)
	c := clock{alarm: alarm, tickers: map[*Ticker]struct{}{}}
	var done []string
	ticker := func(name string, every time.Duration) *Ticker {
		return &Ticker{every: every, do: func() { done = append(done, name) }}
	}
	expect := func(what string, sets []time.Duration, names ...string) {
		t.Helper()
		slices.Sort(done)
		if !slices.Equal(done, names) || !slices.Equal(alarm.sets, sets) {
			t.Fatalf("%s: %v done and alarm set in %v, not %v and %v", what, done, alarm.sets, names, sets)
		}
		done, alarm.sets = nil, nil
	}
	slow, quick := ticker("slow", 500), ticker("quick", 250)
	c.add(slow, 1100)
	expect("the first", []time.Duration{400})
	c.add(quick, 1110)
	expect("one that is due earlier", []time.Duration{140})
	c.add(ticker("slow too", 500), 1120)
	expect("one that is not", nil)
	c.ring(1250)
	expect("the first moment", []time.Duration{250}, "quick")
	c.ring(1499) // by a clock that is a little ahead
	expect("the second", []time.Duration{251}, "quick", "slow", "slow too")
	c.ring(1600)
	expect("in vain", []time.Duration{150})
	c.ring(9_010)
	expect("after a pause, or after the clock was set", []time.Duration{240}, "quick", "slow", "slow too")
	c.ring(1_001)
	expect("after the clock was set back", []time.Duration{249}, "quick", "slow", "slow too")
	c.remove(slow)
	c.remove(quick)
	c.ring(1_500)
	expect("without those", []time.Duration{500}, "slow too")
	for last := range c.tickers {
		c.remove(last)
	}
	expect("the end", []time.Duration{-1})
	if c.alarm != nil {
		t.Fatal("a clock without tickers has an alarm")
	}
	c.ring(2_000) // which was under way
	expect("after the end", nil)
}

func TestTicker(t *testing.T) {
	tick := NewTicker(10 * time.Millisecond)
	calls := make(chan struct{}, 1)
	every := Every(20*time.Millisecond, func() {
		select {
		case calls <- struct{}{}:
		default:
		}
	})
	for range 3 {
		<-tick.C
		<-calls
	}
	tick.Stop()
	<-calls
	every.Stop()
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.alarm != nil {
		t.Fatal("there is an alarm although there are no tickers")
	}
}

func TestAlarm(t *testing.T) {
	for name, create := range map[string]func(func()) Alarm{"": NewAlarm, "of package time": NewTimerAlarm} {
		t.Run(name, func(t *testing.T) {
			rang := make(chan time.Time, 10)
			a := create(func() { rang <- time.Now() })
			for _, in := range []time.Duration{5 * time.Millisecond, 0, 300 * time.Microsecond} {
				began := time.Now()
				a.Set(time.Hour)
				a.Set(in)
				if after := (<-rang).Sub(began); after < in {
					t.Errorf("it rang after %v and not %v", after, in)
				}
			}
			for _, x := range []struct {
				what string
				then func()
			}{{"it was set to another time", func() { a.Set(time.Hour) }}, {"it was closed", a.Close}} {
				began := time.Now()
				a.Set(20 * time.Millisecond)
				x.then()
				if time.Since(began) > 10*time.Millisecond {
					t.Skip("the machine is busy")
				}
				select {
				case <-rang:
					t.Errorf("it rang after %s", x.what)
				case <-time.After(30 * time.Millisecond):
				}
			}
		})
	}
}
