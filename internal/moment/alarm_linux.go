package moment

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A systemAlarm is a timer that is read from a descriptor (timerfd_create(2)).
type systemAlarm struct {
	f    *os.File
	conn syscall.RawConn
	arm  func(fd uintptr) // sets it to spec; made once: a closure for each time would be garbage
	spec unix.ItimerSpec
}

// newSystemAlarm returns nil if there is none to be had.
func newSystemAlarm(ring func()) Alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil
	}
	a := &systemAlarm{f: os.NewFile(uintptr(fd), "timer")}
	if a.conn, err = a.f.SyscallConn(); err == nil {
		err = a.f.SetReadDeadline(time.Time{}) // which fails if it cannot be waited for
	}
	if err != nil {
		a.f.Close()
		return nil
	}
	a.arm = func(fd uintptr) { // raw, as rung is; and there is nothing about it that can fail
		_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&a.spec)), 0, 0, 0)
	}
	go func() {
		for a.conn.Read(rung) == nil {
			ring()
		}
	}()
	return a
}

// rung reports whether a timer has rung since it was set. The call does not block, so the runtime is not told of it, which would wake its monitor.
func rung(fd uintptr) bool {
	var times uint64
	n, _, _ := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&times)), unsafe.Sizeof(times))
	return n == unsafe.Sizeof(times)
}

func (a *systemAlarm) Set(in time.Duration) {
	a.spec.Value = unix.NsecToTimespec(int64(max(in, 1))) // 0 would stop it
	_ = a.conn.Control(a.arm)
}

func (a *systemAlarm) Close() { a.f.Close() }
