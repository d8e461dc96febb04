package ha_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// heirs counts the heirs of a process.
func heirs(t *testing.T, parent int) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		stat, _ := os.ReadFile(file) // it may have ended
		_, rest, _ := bytes.Cut(stat, []byte(" (baton-heir) "))
		if fields := bytes.Fields(rest); len(fields) > 1 && string(fields[1]) == strconv.Itoa(parent) {
			n++
		}
	}
	return n
}

// TestHeir: this process has one heir as long as one of its members is open that has not done without.
func TestHeir(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is none")
	}
	t.Parallel()
	for _, without := range []bool{false, true} {
		c := newCluster(t, 1, nil)
		cfg := c.config("a")
		p := spawn(t, child{Name: "a", Dir: cfg.Dir, Cluster: cfg.Cluster, Members: cfg.Members, NoHeir: without})
		if line := receive(t, "its first word", p.lines); line == "" {
			t.Error("it says nothing")
		}
		if n := heirs(t, p.cmd.Process.Pid); n != 1 && !without || n != 0 && without {
			t.Errorf("NoHeir %v: it has %d heirs", without, n)
		}
	}
}
