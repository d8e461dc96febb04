package ha

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bootTime is the lease's clock: monotonic, and it goes on while the machine sleeps (CLOCK_BOOTTIME),
// which Go's own monotonic clock does not. A member that slept sees at once that its lease is over.
func bootTime() time.Duration {
	var ts unix.Timespec
	// Not unix.ClockGettime, which tells the scheduler that it may block, so that a process that had nothing to do wakes a thread to watch it.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("baton: no CLOCK_BOOTTIME: " + errno.Error()) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
