//go:build amd64 || arm64

package heir

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/internal/vfs"
)

// The tests run this very binary again, as a process that holds an heir: it says so, and ends with its input or, told to "run", as another program.
const (
	variable = "BATON_TEST_HEIR"
	locked   = "BATON_TEST_HEIR_LOCK" // a file that the process locks
	ballast  = 64 << 20
)

func TestMain(m *testing.M) {
	if os.Getenv(variable) == "" {
		os.Exit(m.Run())
	}
	if spec := os.Getenv(filtered); spec != "" {
		if err := refuse(spec); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	_, err := Hold()
	if name := os.Getenv(locked); name != "" {
		_, lerr := vfs.OS.Lock(name)
		err = errors.Join(err, lerr)
	}
	memory := make([]byte, ballast)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1 // the heir has what comes after it, too
	}
	fmt.Println(err)
	if lines := bufio.NewScanner(os.Stdin); lines.Scan() && lines.Text() == "run" {
		fmt.Fprintln(os.Stderr, syscall.Exec("/bin/cat", []string{"cat"}, nil))
	}
	fmt.Println(memory[0])
	os.Exit(0)
}

const patience = 20 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// heirsOf returns the heirs among the children of a process.
func heirsOf(t *testing.T, parent int) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		id, rest, _ := bytes.Cut(stat, []byte(" ("+name+") "))
		if fields := strings.Fields(string(rest)); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(string(id))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// status returns a line of the status of a process, "" if there is none.
func status(pid int, key string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "\n"+key+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

// over reports whether a process has ended. Whoever is to wait for it may not have done so.
func over(pid int) bool { s := status(pid, "State"); return s == "" || s[0] == 'Z' || s[0] == 'X' }

// A holding is a process that holds an heir.
type holding struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	heir int
}

func hold(t *testing.T, env ...string) holding {
	t.Helper()
	h := holding{Cmd: exec.Command(os.Args[0])}
	h.Env = append(append(os.Environ(), variable+"=1"), env...)
	h.Stderr = os.Stderr
	in, err := h.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	if line, err := h.out.ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	heirs := heirsOf(t, h.Process.Pid)
	if len(heirs) != 1 {
		t.Fatalf("the heirs of %d are %v", h.Process.Pid, heirs)
	}
	h.heir = heirs[0]
	t.Cleanup(func() {
		_ = h.Process.Kill()
		_ = unix.Kill(h.heir, unix.SIGCONT)
		_ = h.Wait()
		eventually(t, "the heir ends", func() bool { return over(h.heir) })
	})
	return h
}

// TestHold_Killed: a process that is killed has ended, with all that it had open, while its memory is still there: its heir, which is stopped, has it.
func TestHold_Killed(t *testing.T) {
	t.Parallel()
	h := hold(t)
	if err := unix.Kill(h.heir, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heir stands still", func() bool { return strings.HasPrefix(status(h.heir, "State"), "T") })
	if err := h.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(h.out); err != nil || len(text) != 0 { // until its end, which is that of the process
		t.Fatalf("%q, %v", text, err)
	}
	_, _ = h.Process.Wait()
	kib, _ := strconv.Atoi(strings.TrimSuffix(status(h.heir, "VmRSS"), " kB"))
	if kib<<10 < ballast {
		t.Errorf("of %d KiB the heir has %d", ballast>>10, kib)
	}
	if err := unix.Kill(h.heir, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heir ends", func() bool { return over(h.heir) })
}

// TestHold_Lock: the lock of a process that was killed is kept until its memory is given back. What it was writing may be under way for as long.
func TestHold_Lock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "LOCK")
	h := hold(t, locked+"="+name)
	if err := unix.Kill(h.heir, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heir stands still", func() bool { return strings.HasPrefix(status(h.heir, "State"), "T") })
	if err := h.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = h.Process.Wait()
	if _, err := vfs.OS.Lock(name); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("while the memory is there: %v", err)
	}
	if err := unix.Kill(h.heir, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heir ends", func() bool { return over(h.heir) })
	f, err := vfs.OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestHold_Heir: it has one file and no power, ignores what a process is asked to do, is out of its session, and ends when its process ends by itself.
func TestHold_Heir(t *testing.T) {
	t.Parallel()
	h := hold(t)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.heir))
	if err != nil || len(files) != 1 {
		t.Errorf("it has %v open, %v", files, err)
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", h.heir)); dir != "/" {
		t.Errorf("it is in %q, %v", dir, err)
	}
	for key, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1"} {
		if got := status(h.heir, key); got != want {
			t.Errorf("%s of it is %q, want %s", key, got, want)
		}
	}
	if session, err := unix.Getsid(h.heir); session != h.heir {
		t.Errorf("it is in session %d, %v", session, err)
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGURG, unix.SIGPROF, unix.SIGSEGV} {
		if err := unix.Kill(h.heir, sig); err != nil {
			t.Fatal(err)
		}
	}
	if over(h.heir) {
		t.Error("a signal has ended it")
	}
	h.in.Close()
	eventually(t, "it ends", func() bool { return over(h.heir) })
}

// TestHold_Exec: where a process becomes another program, its memory is given back.
func TestHold_Exec(t *testing.T) {
	t.Parallel()
	h := hold(t)
	fmt.Fprintln(h.in, "run")
	eventually(t, "the heir ends", func() bool { return over(h.heir) })
	fmt.Fprintln(h.in, "still there")
	if line, err := h.out.ReadString('\n'); line != "still there\n" {
		t.Errorf("the other program says %q, %v", line, err)
	}
}

// TestHold_Release: a process has one heir, however many hold it, which ends with the last of them and leaves nothing to be waited for.
func TestHold_Release(t *testing.T) {
	t.Parallel()
	var releases []func()
	for range 3 {
		release, err := Hold()
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	heirs := heirsOf(t, os.Getpid())
	if len(heirs) != 1 {
		t.Fatalf("the heirs are %v", heirs)
	}
	// It may have been killed, or stopped: all the same.
	if err := unix.Kill(heirs[0], unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i, release := range releases {
		release()
		release()
		_, err := os.Stat(fmt.Sprintf("/proc/%d", heirs[0]))
		if there, want := !errors.Is(err, fs.ErrNotExist), i < len(releases)-1; there != want {
			t.Errorf("after %d of %d have let go of it, it is there: %v", i+1, len(releases), there)
		}
	}
}

// TestHold_Refused: an heir of which a system call fails is none, and leaves nothing behind.
func TestHold_Refused(t *testing.T) {
	pid, err := cloneWith(script(1 << 20)) // no such descriptor
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unix.Wait4(pid, nil, unix.WALL, nil); got != pid {
		t.Errorf("waited for %d: %d, %v", pid, got, err)
	}
}
