package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// breakSegment makes the descriptors through which the process writes to the last segment fail with ENOSPC.
func breakSegment(t *testing.T, w *WAL) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(full)
	tail, n := w.segs[len(w.segs)-1], 0
	for _, fd := range fds {
		var num int
		fmt.Sscan(fd.Name(), &num)
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == tail.path {
			must(t, unix.Dup3(full, num, unix.O_CLOEXEC))
			n++
		}
	}
	if n == 0 {
		t.Fatal("descriptor not found")
	}
}

func TestG7_FailedWriteSticks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	m := &model{snap: 1}
	m.save(t, w, hard(2, 7, 1), entries(2, 20, 2, 100))
	breakSegment(t, w)
	first := w.Save(hard(3, 1, 1), entries(20, 21, 3, 100))
	if !errors.Is(first, unix.ENOSPC) && !errors.Is(first, unix.EINVAL) {
		t.Fatal(first)
	}
	for name, err := range map[string]error{
		"save": w.Save(nil, entries(20, 21, 3, 1)), "snapshot": w.SaveSnapshot(snapshot(5, 2, ""), nil),
		"stage": w.StageSnapshot(snapshot(50, 2, ""), nil), "install": w.InstallSnapshot(snapshot(50, 2, ""), nil),
		"compact": w.Compact(1), "meet": w.Meet("z", 1), "close": w.Close(),
	} {
		if err != first {
			t.Errorf("%s: %v, want %v", name, err, first)
		}
	}
	w = mustOpen(t, dir)
	if err := m.check(w); err != nil {
		t.Fatal(err)
	}
}
