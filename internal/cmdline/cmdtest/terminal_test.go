package cmdtest

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// A terminal is a program that runs on a pseudo-terminal, and what it has drawn.
type terminal struct {
	t    *testing.T
	c    *exec.Cmd
	tty  *os.File
	read sync.WaitGroup

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// onTerminal starts baton on a terminal of 100 columns and 20 lines.
func onTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	x := &terminal{t: t, c: exec.Command("baton", args...)}
	x.c.Env = append(os.Environ(), env...)
	tty, err := pty.StartWithSize(x.c, &pty.Winsize{Rows: 20, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	x.tty = tty
	x.read.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := tty.Read(b) // an error, when the program has ended
			x.mu.Lock()
			x.out.Write(b[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		if x.c.ProcessState == nil {
			_ = x.c.Process.Kill()
			_ = x.c.Wait()
		}
		tty.Close()
		x.read.Wait()
	})
	return x
}

func (x *terminal) drawn() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.String()
}

// page is what is drawn last.
func (x *terminal) page() string {
	all := x.drawn()
	return all[max(0, strings.LastIndex(all, "\x1b[H")):]
}

// await waits until what is drawn last fits.
func (x *terminal) await(what string) {
	x.t.Helper()
	re := regexp.MustCompile(what)
	for deadline := time.Now().Add(patience); !re.MatchString(x.page()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("the terminal does not show %q:\n%q", what, x.drawn())
		}
	}
}

// ends waits for the end of the program, and returns its code.
func (x *terminal) ends() int {
	x.t.Helper()
	kill := time.AfterFunc(patience, func() { _ = x.c.Process.Kill() })
	defer kill.Stop()
	_ = x.c.Wait()
	x.read.Wait()
	return x.c.ProcessState.ExitCode()
}

func newCluster(t *testing.T) (*cluster, []string) {
	t.Helper()
	c := &cluster{dir: t.TempDir()}
	t.Cleanup(c.stopAll)
	if err := c.start(t, 3); err != nil {
		t.Fatal(err)
	}
	return c, []string{"BATON_ADDR=" + c.addrs(), "BATON_CLUSTER=test"}
}

// The page follows what happens, and gives the terminal back when q is pressed.
func TestWatch(t *testing.T) {
	c, env := newCluster(t)
	x := onTerminal(t, env, "status", "-watch", "-interval", "200ms")
	active, err := c.active()
	if err != nil {
		t.Fatal(err)
	}
	x.await(active + ` is Active`)
	if !strings.HasPrefix(x.drawn(), "\x1b[?1049h") {
		t.Errorf("it takes no page of its own: %q", x.drawn())
	}
	// The role goes elsewhere, and what stands in a member's way is shown as it is, without what a terminal would obey.
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := c.node(active).StayAway(ctx, "for a \x1b[2J test")
		cancel()
		if err == nil {
			break
		}
		t.Log(err)
		if active, err = c.active(); err != nil {
			t.Fatal(err)
		}
	}
	x.await(`! ` + active + ` may not be Active, or had better not \(away\): for a  \[2J test`)
	x.await(`[^` + active + `] is Active`)
	for line := range strings.SplitSeq(x.page(), "\r\n") {
		if text := regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]").ReplaceAllString(line, ""); len([]rune(text)) > 100 {
			t.Errorf("wider than the terminal: %q", text)
		}
	}
	if _, err := x.tty.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	if code := x.ends(); code != 0 {
		t.Errorf("q ends it with %d", code)
	}
	if !strings.HasSuffix(x.drawn(), "\x1b[?25h\x1b[?1049l") {
		t.Errorf("it does not give the terminal back: %q", x.page())
	}
}

// Ctrl-C ends it, too.
func TestWatch_Interrupt(t *testing.T) {
	_, env := newCluster(t)
	x := onTerminal(t, env, "status", "-watch")
	x.await(`is Active`)
	if _, err := x.tty.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	if code := x.ends(); code != 0 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
}

// Long work shows a bar on a terminal, and nothing of it in a pipe.
func TestBar(t *testing.T) {
	c, env := newCluster(t)
	active, err := c.active()
	if err != nil {
		t.Fatal(err)
	}
	n := c.node(active)
	for range 16 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := n.Append(ctx, n.Status().Token, make([]byte, 1<<20))
		if cancel(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "test.baton")
	x := onTerminal(t, env, "backup", file)
	if code := x.ends(); code != 0 || !strings.Contains(x.drawn(), "backup") || !strings.Contains(x.drawn(), "MiB of test by ") {
		t.Errorf("backup ends with %d: %q", code, x.drawn())
	}
	x = onTerminal(t, env, "restore", "-dir", filepath.Join(t.TempDir(), "r"), "-name", "r", file)
	if code := x.ends(); code != 0 || !strings.Contains(x.drawn(), "restore ") || !strings.Contains(x.drawn(), "%") {
		t.Errorf("restore ends with %d: %q", code, x.drawn())
	}
	c.stopAll()
	x = onTerminal(t, env, "verify", filepath.Join(c.dir, "a"))
	if code := x.ends(); code != 0 || !strings.Contains(x.drawn(), "verify ") || !strings.Contains(x.drawn(), "%") {
		t.Errorf("verify ends with %d: %q", code, x.drawn())
	}
	var errs bytes.Buffer
	pipe := exec.Command("baton", "verify", filepath.Join(c.dir, "a"))
	pipe.Stdout, pipe.Stderr = io.Discard, &errs
	if err := pipe.Run(); err != nil || errs.Len() > 0 {
		t.Errorf("in a pipe: %v, %q", err, &errs)
	}
	x = onTerminal(t, env, "backup", "-")
	if code := x.ends(); code != 2 || !strings.Contains(x.drawn(), "a backup is no text") {
		t.Errorf("a backup to a terminal ends with %d: %q", code, x.drawn())
	}
}
