package vfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests run this very binary again, as a process that does one thing with a file.
const (
	lockRole = "BATON_TEST_LOCK"
	locks    = "locks "    // has it locked until its input ends, and much memory
	asks     = "asks "     // says whether a process that lives has it, which it waits for
	encloses = "encloses " // locks it, and has another process ask
)

const lockedPatience = 20 * time.Second

func TestMain(m *testing.M) {
	role := os.Getenv(lockRole)
	if role == "" {
		os.Exit(m.Run())
	}
	switch name := role[strings.Index(role, "/"):]; {
	case strings.HasPrefix(role, asks):
		fmt.Println(asked(name, lockedPatience))
	case strings.HasPrefix(role, encloses):
		_, err := OS.Lock(name)
		f, oerr := os.OpenFile(name, os.O_RDWR, 0)
		if err := errors.Join(err, oerr); err != nil {
			fmt.Println(err)
			return
		}
		other := exec.Command(os.Args[0])
		other.Env = append(os.Environ(), lockRole+"=once "+name)
		text, err := other.CombinedOutput()
		fmt.Print(string(text), err, "\n")
		f.Close()
	case strings.HasPrefix(role, locks):
		_, err := OS.Lock(name)
		memory := make([]byte, 64<<20)
		for i := 0; i < len(memory); i += os.Getpagesize() {
			memory[i] = 1
		}
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Println(memory[0])
	default:
		fmt.Println(asked(name, 100*time.Millisecond))
	}
	os.Exit(0)
}

// asked reports whether within a time a process that lives is seen to have a file locked. Its first thread may be busy.
func asked(name string, within time.Duration) any {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if heldByLiving(f) {
			return true
		}
	}
	return false
}

// another starts a process with a role, and returns how to end it, its first line, and its input.
func another(t *testing.T, role string, attr *syscall.SysProcAttr) (p *exec.Cmd, line string) {
	t.Helper()
	p = exec.Command(os.Args[0])
	p.Env, p.Stderr, p.SysProcAttr = append(os.Environ(), lockRole+"="+role), os.Stderr, attr
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	switch err := p.Start(); {
	case attr != nil && err != nil:
		t.Skip("no namespace of processes to be had:", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return p, strings.TrimSpace(line)
}

// TestLockOfTheLiving: who has the lock is known, as long as he lives and from nowhere else: from the moment at which he is killed nobody takes him for
// one that lives, although he has the lock until his memory is given back.
func TestLockOfTheLiving(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "LOCK")
	soonest := time.Hour
	for range 10 {
		p, line := another(t, locks+name, nil)
		if line != "<nil>" {
			t.Fatal("it says", line)
		}
		if lives := asked(name, lockedPatience); lives != true {
			t.Fatalf("a process that lives has the lock: %v", lives)
		}
		began := time.Now()
		if _, err := OS.Lock(name); !errors.Is(err, ErrLocked) {
			t.Fatalf("beside one that lives: %v", err)
		}
		soonest = min(soonest, time.Since(began))
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(lockedPatience); ; {
			if heldByLiving(f) {
				t.Fatal("a process that was killed is taken for one that lives")
			}
			still, err := tryLock(f)
			if !still && err != nil || time.Now().After(deadline) {
				t.Fatal("the lock is not given back", err)
			}
			if !still {
				break
			}
		}
		f.Close()
	}
	if soonest >= lockPatience {
		t.Errorf("who is refused beside one that lives has waited for %v", soonest)
	}
}

// TestLockTwice: who tries to lock a file twice is refused, and others can still see whose it is.
func TestLockTwice(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "LOCK")
	first, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := os.Symlink(name, name+".too"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{name, name + ".too"} {
		if _, err := OS.Lock(name); !errors.Is(err, ErrLocked) {
			t.Errorf("locked twice: %v", err)
		}
	}
	if _, line := another(t, asks+name, nil); line != "true" {
		t.Errorf("another process sees that one that lives has it: %s", line)
	}
}

// TestLockFromElsewhere: a process of another namespace is nobody that can be known, also if the files in /proc are those of others.
func TestLockFromElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine, its := filepath.Join(dir, "mine"), filepath.Join(dir, "its")
	f, err := OS.Lock(mine)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, role := range []string{"once " + mine, encloses + its} {
		if _, line := another(t, role, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}); line != "false" {
			t.Errorf("%s: %s", role, line)
		}
	}
}

// TestLockOfBefore: programs from before, which lock the whole file, and those of now keep each other out; whose such a lock is, nobody knows.
func TestLockOfBefore(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "LOCK")
	before, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	lockWhole := func() error {
		return unix.FcntlFlock(before.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	}
	f, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := lockWhole(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("beside one of now: %v", err)
	}
	f.Close()
	before.Close()
	if before, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := lockWhole(); err != nil {
		t.Fatal(err)
	}
	if lives := asked(name, 50*time.Millisecond); lives != false {
		t.Errorf("whose it is: %v", lives)
	}
	if _, err := OS.Lock(name); !errors.Is(err, ErrLocked) {
		t.Errorf("beside one of before: %v", err)
	}
}

// TestSleeps: a process lives for sure when its first thread sleeps and is not ending.
func TestSleeps(t *testing.T) {
	t.Parallel()
	for stat, want := range map[string]bool{
		"7 (a) S 1 7 7 0 -1 4194560 3829\n":         true,
		"7 (a) S) R 1) S 1 7 7 0 -1 4194560 3829\n": true,
		"7 (a) S 1 7 7 0 -1 4194564 3829\n":         false, // PF_EXITING
		"7 (a) S 1 7 7 0 -1 4195584 3829\n":         false, // PF_SIGNALED
		"7 (a) R 1 7 7 0 -1 4194560 3829\n":         false,
		"7 (a) Z 1 7 7 0 -1 4194560 3829\n":         false,
		"7 (a) S) D 1 7 7 0 -1 4194560 3829\n":      false,
		"7 (a) S 1 7 7 0 -1 x 3829\n":               false,
		"7 (a) S 1 7 7 0 -1":                        false,
		"":                                          false,
	} {
		if got := sleeps([]byte(stat)); got != want {
			t.Errorf("%q: %v", stat, got)
		}
	}
}
