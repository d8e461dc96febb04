//go:build !linux

package ha

import "time"

var start = time.Now()

// bootTime is the lease's clock. Here it is Go's monotonic clock, which on some systems stands still
// while the machine sleeps: G4 holds then only as long as it does not sleep.
func bootTime() time.Duration { return time.Since(start) + time.Hour }
