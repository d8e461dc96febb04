// Package demotest tests that the demonstrations succeed, and that they leave nothing behind.
package demotest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

var demos = flag.Bool("demo", false, "run the demonstrations of the examples, ten seconds each")

// Run builds the program in the current directory and runs its demonstration.
func Run(t *testing.T) { run(t, false) }

// RunWeb is [Run] with -web: when the demonstration is over, the members' pages are there until an interrupt.
func RunWeb(t *testing.T) { run(t, true) }

func run(t *testing.T, web bool) {
	if !*demos {
		t.Skip("see -demo")
	}
	dir, tmp := t.TempDir(), t.TempDir()
	program := filepath.Join(dir, "example")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out []byte
	var err error
	if web {
		cmd.Args = append(cmd.Args, "-web")
		out, err = watch(t, cmd)
	} else {
		out, err = cmd.CombinedOutput()
	}
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("\nPASS: ")) {
		t.Errorf("the demonstration failed: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 && !t.Failed() {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if left := running(program); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

// watch runs a demonstration, looks at the pages of which it speaks when it is over, and interrupts it.
func watch(t *testing.T, cmd *exec.Cmd) (out []byte, err error) {
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pages := 0
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		out = append(append(out, lines.Bytes()...), '\n')
		if !strings.HasSuffix(lines.Text(), "until Ctrl-C.") {
			continue
		}
		for _, url := range regexp.MustCompile(`page: (http://\S+)`).FindAllSubmatch(out, -1) {
			resp, err := http.Get(string(url[1]))
			if err != nil {
				t.Error(err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(" is Active</h1>")) {
				t.Errorf("%s: %s\n%s", url[1], resp.Status, body)
			}
			pages++
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
	}
	if pages != 3 {
		t.Errorf("%d pages were looked at", pages)
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != 130 {
		return out, err
	}
	return out, nil
}

// running finds the processes of a program, where the system shows them as files.
func running(program string) (pids []string) {
	if runtime.GOOS != "linux" {
		return nil
	}
	exes, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is good
	for _, exe := range exes {
		if target, err := os.Readlink(exe); err == nil && strings.HasPrefix(target, program) {
			pids = append(pids, filepath.Base(filepath.Dir(exe)))
		}
	}
	return pids
}
