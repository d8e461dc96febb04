//go:build amd64 || arm64

package heir

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// name is what the heir's process is called, at most 15 bytes.
const name = "baton-heir"

// What the heir reads: it shares this memory, which must stay where it is.
var (
	title = [16]byte([]byte(name + "\x00\x00\x00\x00\x00\x00"))
	root  = [2]byte{'/'}
	life  [10][4]uintptr // its system calls, one after the other: the number and three arguments
	vow   = unix.SockFprog{Len: uint16(len(only)), Filter: &only[0]}
)

// only is the filter of system calls (seccomp(2)) that the heir has from the end of its preparations on: it reads, writes and ends, and all else is refused. Its
// process may give up privileges later, or be taken over, and whoever can write into the memory that they share would find them with the heir.
var only = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4}, // the machine whose number it is
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: machine, Jf: 4},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_READ, Jt: 3},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_WRITE, Jt: 2},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_EXIT_GROUP, Jt: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
}

// clone starts the heir, which makes the system calls from first to last as long as none fails, and then ends. It returns what clone(2) does.
//
//go:noescape
func clone(flags uintptr, first, last *[4]uintptr) (pid uintptr)

// start starts an heir and waits until it has let go of all that it must not have.
func start() (end func(), err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, its := pair[0], pair[1]
	pid, err := cloneWith(script(uintptr(its)))
	unix.Close(its)
	if err == nil {
		// It says so, or its end is closed.
		var b [1]byte
		n := 0
		for n, err = unix.Read(ours, b[:]); err == unix.EINTR; n, err = unix.Read(ours, b[:]) {
		}
		if err == nil && n == 0 {
			err = errors.New("a system call of its was refused")
		}
		if err != nil {
			reap(pid)
		}
	}
	if err != nil {
		unix.Close(ours)
		return nil, fmt.Errorf("heir of the memory: %w", err)
	}
	return func() {
		unix.Close(ours)
		reap(pid)
	}, nil
}

// script writes the heir's life down, and returns of how many system calls it is: out of the way of what is done to the whole session, under its name, in
// no directory that somebody wants to unmount, without files, and without the power to do anything, it says that it is there, and waits for the end.
func script(its uintptr) int {
	calls := append(life[:0],
		[4]uintptr{unix.SYS_SETSID},
		[4]uintptr{unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&title))},
		[4]uintptr{unix.SYS_CHDIR, uintptr(unsafe.Pointer(&root))},
		[4]uintptr{unix.SYS_CLOSE_RANGE, its + 1, 1<<32 - 1})
	if its > 0 {
		calls = append(calls, [4]uintptr{unix.SYS_CLOSE_RANGE, 0, its - 1})
	}
	return len(append(calls,
		[4]uintptr{unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1},
		[4]uintptr{unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&vow))},
		[4]uintptr{unix.SYS_WRITE, its, uintptr(unsafe.Pointer(&title)), 1},
		[4]uintptr{unix.SYS_READ, its, uintptr(unsafe.Pointer(&root)) + 1, 1},
	))
}

// cloneWith starts the heir with so many system calls. It inherits that all signals are blocked: the handlers are Go's, and it has nothing that they need.
func cloneWith(calls int) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, os.NewSyscallError("sigprocmask", err)
	}
	// No signal tells of its end, so that who waits for any child of his own does not get this one.
	r := clone(unix.CLONE_VM|unix.CLONE_UNTRACED, &life[0], &life[calls-1])
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) // what was, is valid
	if r > -4096&(1<<64-1) {
		return 0, os.NewSyscallError("clone", syscall.Errno(-r))
	}
	return int(r), nil
}

// reap ends the heir, which may have been stopped, and waits for it.
func reap(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL) // it is there until it is waited for
	for {
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}
