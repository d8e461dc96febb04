package storage

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// On a file system without direct writes everything is as elsewhere.
func TestFileSystemWithoutDirectWrites(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "ramfs", 0, ""); errors.Is(err, syscall.EPERM) {
		t.Skip("only root can mount one")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	entriesModel(t, filepath.Join(dir, "m"))
	w := mustOpen(t, filepath.Join(dir, "n"))
	if w.out.f.direct {
		t.Fatal("direct")
	}
}
