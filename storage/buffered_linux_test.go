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
	want := entries(2, 20, 2, 100_000)
	must(t, w.Save(hard(2, 1, 1), want))
	got, err := w.Entries(2, 20, pastCache*8)
	must(t, err)
	must(t, sameEntries(got, want))
}
