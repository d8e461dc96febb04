//go:build unix

package vfs

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLockGivenBack: who closes a locked file gives the lock back, although another process has a copy of its descriptor.
func TestLockGivenBack(t *testing.T) {
	name := filepath.Join(t.TempDir(), "LOCK")
	f, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.(*lockedFile).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OS.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
