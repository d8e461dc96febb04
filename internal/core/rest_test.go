package core

import (
	"testing"
	"time"
)

// TestMoment: moments are as far apart as the election timeout, halved until that is no more than what is asked for, by the clock on the wall; the one that is very
// near is left out.
func TestMoment(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct{ now, ahead, apart, at, every time.Duration }{
		{1000 * ms, 0, 125 * ms, 1125 * ms, 125 * ms},
		{1000 * ms, 0, 124 * ms, 1062500 * time.Microsecond, 62500 * time.Microsecond},
		{1000 * ms, 0, time.Hour, 1500 * ms, 500 * ms},
		{1001 * ms, 0, 250 * ms, 1250 * ms, 250 * ms},
		{1001 * ms, 10 * ms, 250 * ms, 1240 * ms, 250 * ms},
		{1001 * ms, -10 * ms, 250 * ms, 1260 * ms, 250 * ms},
		{5 * ms, -300 * ms, 250 * ms, 50 * ms, 250 * ms},
		{1218 * ms, 0, 250 * ms, 1250 * ms, 250 * ms},
		{1220 * ms, 0, 250 * ms, 1500 * ms, 250 * ms}, // it is this one for which the member was woken, a little early
		{1, 0, 1, time.Duration(2) + 976561 - 1, 976562},
	} {
		c := &Core{cfg: Config{ElectionTimeout: 500 * ms}}
		c.Align(test.ahead)
		if at, every := c.moment(test.now, test.apart); at != test.at || every != test.every {
			t.Errorf("at %v, the wall %v ahead, at most %v apart: %v, every %v, should be %v, %v", test.now, test.ahead, test.apart, at, every, test.at, test.every)
		}
	}
}
