package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestRmdir: a running member whose directory is deleted, moved away or replaced stops, and says which file is gone.
func TestRmdir(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(dir string) error
		file string
	}{
		"deleted":    {os.RemoveAll, ""},
		"moved away": {func(dir string) error { return os.Rename(dir, dir+".old") }, ""},
		"copied back": {func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.CopyFS(dir, os.DirFS(dir+".old")))
		}, ""},
		"wal deleted":   {func(dir string) error { return os.RemoveAll(filepath.Join(dir, walName)) }, walName},
		"snap deleted":  {func(dir string) error { return os.RemoveAll(filepath.Join(dir, snapName)) }, snapName},
		"mark replaced": {func(dir string) error { return onDisk.writeFile(filepath.Join(dir, markName), make([]byte, markSize)) }, markName},
		"lock deleted":  {func(dir string) error { return os.Remove(filepath.Join(dir, lockName)) }, lockName},
		"segment deleted": {func(dir string) error {
			names, err := filepath.Glob(filepath.Join(dir, walName, "*.wal"))
			return errors.Join(err, os.Remove(names[len(names)-1]))
		}, ".wal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "a")
			w := mustOpen(t, dir)
			told := make(chan error, 1)
			w.Watch(Watch{Every: time.Millisecond, Space: func(Space, error) {}, Lost: func(err error) { told <- err }})
			for i := uint64(2); i < 40; i++ { // over some segments
				must(t, w.Save(hard(2, 1, 1), entries(i, i+1, 2, 2000)))
			}
			select {
			case err := <-told:
				t.Fatalf("told that it is lost: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			must(t, test.do(dir))
			var err error
			select {
			case err = <-told:
			case <-time.After(20 * time.Second):
				t.Fatal("not noticed")
			}
			var lost *LostError
			if !errors.As(err, &lost) || !strings.HasPrefix(lost.File, dir) || !strings.HasSuffix(lost.File, test.file) {
				t.Errorf("told %v", err)
			}
			for w.usable() == nil { // Lost has not returned yet
				time.Sleep(time.Millisecond)
			}
			if serr := w.Save(nil, entries(40, 41, 2, 10)); !errors.Is(serr, err) {
				t.Errorf("save: %v", serr)
			}
		})
	}
}

// TestDiskFull_Segment: for want of space or descriptors for the next segment the last one grows on, what is left in it is
// told, and a new one is begun when there is room again.
func TestDiskFull_Segment(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EMFILE} {
		t.Run(cause.Error(), func(t *testing.T) {
			dir := t.TempDir()
			o := testOptions()
			o.SegmentSize = 256 << 10
			w, err := Open(dir, o)
			must(t, err)
			var scarce atomic.Bool
			make := w.supply.make
			w.supply.make = func(path string, size int64) error {
				if scarce.Load() {
					must(t, os.WriteFile(path, nil, 0o600))
					return fmt.Errorf("reserve: %w", cause)
				}
				return make(path, size)
			}
			last := uint64(1)
			fill := func(kib int) Space {
				for range kib {
					last++
					must(t, w.Save(hard(2, 1, 1), entries(last, last+1, 2, 1000)))
				}
				space, why := w.space(SpaceEnough)
				if (space == SpaceEnough) != (why == nil) {
					t.Errorf("%v, because %v", space, why)
				}
				return space
			}
			scarce.Store(true)
			want := map[bool][]Space{true: {SpaceEnough, SpaceLow, SpaceOut, SpaceOut}, false: {0, 0, 0, 0}}[cause == syscall.ENOSPC]
			for i, kib := range []int{115, 20, 30, 200} {
				if got := fill(kib); got != want[i] {
					t.Errorf("step %d: space %d, want %d", i, got, want[i])
				}
			}
			if n := len(w.segs); n != 1 {
				t.Errorf("%d segments", n)
			}
			if _, err := os.Stat(w.supply.path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("what could not be reserved was not removed: %v", err)
			}
			scarce.Store(false)
			if got := fill(40); got != SpaceEnough || len(w.segs) != 2 {
				t.Errorf("with room again: space %d, %d segments", got, len(w.segs))
			}
			must(t, w.Close())
			w, err = Open(dir, o)
			must(t, err)
			defer w.Close()
			if got, err := w.Entries(2, last+1, 1<<40); err != nil || sameEntries(got, entries(2, last+1, 2, 1000)) != nil {
				t.Errorf("after a restart: %d entries, %v", len(got), err)
			}
		})
	}
}

// TestWeird_Directories: wal and snap may have been made beforehand, to mount file systems there, and what nobody has put
// into a directory is let be. What is foreign is named.
func TestWeird_Directories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	for _, d := range []string{"wal/lost+found", "snap", ".snapshot/daily", "lost+found"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	must(t, os.WriteFile(filepath.Join(dir, creatingName), nil, 0o600)) // an interrupted start
	must(t, os.WriteFile(filepath.Join(dir, walName, "next.tmp"), nil, 0o600))
	if empty, err := Empty(dir); err != nil || !empty {
		t.Fatalf("empty: %v, %v", empty, err)
	}
	w := mustOpen(t, dir)
	must(t, w.Save(hard(2, 1, 1), entries(2, 9, 2, 100)))
	must(t, w.Close())
	w = mustOpen(t, dir)
	if _, _, last, _ := w.Recovered(); last != 8 {
		t.Errorf("last entry %d", last)
	}
	for _, d := range []string{"wal/lost+found", ".snapshot/daily", "lost+found"} {
		if _, err := os.Stat(filepath.Join(dir, d)); err != nil {
			t.Error(err)
		}
	}
	foreign := t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.doc"), nil, 0o600))
	if _, err := Empty(foreign); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), filepath.Join(foreign, "thesis.doc")) {
		t.Errorf("foreign: %v", err)
	}
}

// TestRodir: that nothing can be made in wal or snap is found at Open.
func TestRodir(t *testing.T) {
	for _, sub := range []string{walName, snapName} {
		dir := t.TempDir()
		must(t, mustOpen(t, dir).Close())
		must(t, os.Chmod(filepath.Join(dir, sub), 0o500))
		t.Cleanup(func() { os.Chmod(filepath.Join(dir, sub), 0o700) })
		if onDisk.checkWritable(filepath.Join(dir, sub)) == nil {
			t.Skip("this user may write everywhere")
		}
		if _, err := Open(dir, testOptions()); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), filepath.Join(dir, sub)) {
			t.Errorf("%s: %v", sub, err)
		}
	}
}

// TestChdir: a relative directory stays the same one when the program goes elsewhere.
func TestChdir(t *testing.T) {
	t.Chdir(t.TempDir())
	w := mustOpen(t, "rel/a")
	t.Chdir(t.TempDir())
	for i := uint64(2); i < 40; i++ {
		must(t, w.Save(hard(2, 1, i-1), entries(i, i+1, 2, 2000)))
	}
	must(t, w.SaveSnapshot(snapshot(30, 2, "x"), nil))
	must(t, w.Compact(20))
	must(t, w.SetClusterID([16]byte{1}))
	must(t, w.Close())
	if left, _ := filepath.Glob("*"); len(left) > 0 {
		t.Errorf("written elsewhere: %v", left)
	}
}
