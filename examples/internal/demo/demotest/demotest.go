// Package demotest tests that the demonstrations succeed, and that they leave nothing behind.
package demotest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Run builds the program in the current directory and runs its demonstration.
func Run(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes; takes as long as the demonstration")
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
	out, err := cmd.CombinedOutput()
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
