//go:build amd64 || arm64

package heir

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filtered, in the environment, has the process refuse itself a system call first, as systemd's SystemCallFilter or a container's profile would: "NUMBER ACTION",
// both numbers.
const filtered = "BATON_TEST_FILTER"

// refuse puts a filter in force for all threads of this process, under which a system call is answered with an action. Of clone only those are
// refused that are no threads.
func refuse(spec string) error {
	number, action, _ := strings.Cut(spec, " ")
	nr, err1 := strconv.ParseUint(number, 10, 32)
	ret, err2 := strconv.ParseUint(action, 10, 32)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("no filter: %q", spec)
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLONE, Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.CLONE_THREAD, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(ret)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return nil
}

// TestHold_Filtered: whatever system call of the heir's is refused, and however, a process says so and goes on without one. An heir whose calls
// are all allowed is there under a filter, too.
func TestHold_Filtered(t *testing.T) {
	actions := map[string]uint32{
		"EPERM": unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), "ENOSYS": unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS),
		"trap": unix.SECCOMP_RET_TRAP, "kill the thread": unix.SECCOMP_RET_KILL_THREAD, "kill the process": unix.SECCOMP_RET_KILL_PROCESS,
	}
	calls := map[string]int{"setsid": unix.SYS_SETSID, "chdir": unix.SYS_CHDIR, "close_range": unix.SYS_CLOSE_RANGE, "prctl": unix.SYS_PRCTL, "clone": unix.SYS_CLONE, "nothing": 9999}
	for call, number := range calls {
		for name, action := range actions {
			if call == "clone" && action&^0xffff != unix.SECCOMP_RET_ERRNO {
				continue // it is the process itself that would be ended, as a filter wants it
			}
			t.Run(call+" "+name, func(t *testing.T) {
				t.Parallel()
				c := exec.Command(os.Args[0])
				c.Env = append(os.Environ(), variable+"=1", filtered+"="+fmt.Sprint(number, " ", action))
				c.Stderr = os.Stderr
				in, err := c.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				out, err := c.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				late := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
				defer late.Stop()
				r := bufio.NewReader(out)
				line, err := r.ReadString('\n')
				if want := call == "nothing"; (line == "<nil>\n") != want || err != nil || !want && !strings.HasPrefix(line, "heir of the memory: ") {
					t.Errorf("the process says %q, %v", line, err)
				}
				if heirs := heirsOf(t, c.Process.Pid); (len(heirs) == 1) != (call == "nothing") {
					t.Errorf("its heirs are %v", heirs)
				}
				in.Close()
				rest, _ := io.ReadAll(r)
				if err := c.Wait(); err != nil || string(rest) != "1\n" {
					t.Errorf("it ends with %q, %v", rest, err)
				}
			})
		}
	}
}
