package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestInstallWithoutDescriptors: what the writer needs to bring a leader's snapshot into force is open already, so a lack of
// descriptors does not end the member.
func TestInstallWithoutDescriptors(t *testing.T) {
	w := mustOpen(t, filepath.Join(t.TempDir(), "m"))
	must(t, w.Save(hard(2, 1, 5), entries(2, 9, 2, 10)))
	must(t, w.StageSnapshot(snapshot(500, 2, "leader"), strings.NewReader("state")))
	// Descriptors are used up, not forbidden: other tests' goroutines may hold some.
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 128
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	var held []*os.File
	var err error
	for err == nil {
		var f *os.File
		if f, err = os.Open(os.DevNull); err == nil {
			held = append(held, f)
		}
	}
	ierr := w.InstallSnapshot(snapshot(500, 2, "leader"), hard(2, 1, 500))
	serr := w.Save(nil, entries(501, 503, 2, 10))
	for _, f := range held {
		f.Close()
	}
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if !errors.Is(err, syscall.EMFILE) {
		t.Fatal(err)
	}
	must(t, ierr)
	must(t, serr)
	if snap, b, err := readSnapshot(t, w); err != nil || snap.GetMetadata().GetIndex() != 500 || string(b) != "state" {
		t.Fatal(snap, b, err)
	}
}
