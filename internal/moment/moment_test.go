package moment

import (
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
	if got := Next(time.Hour); got <= 0 || got > time.Hour+time.Hour/8 {
		t.Errorf("%v until the next", got)
	}
}
