package ha

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is the lease's clock: monotonic, and it goes on while the machine sleeps (CLOCK_BOOTTIME),
// which Go's own monotonic clock does not. A member that slept sees at once that its lease is over.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("baton: no CLOCK_BOOTTIME: " + err.Error()) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
