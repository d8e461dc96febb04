package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
)

// A full disk is one on which others have left some bytes free.
type fullDisk struct {
	t    *testing.T
	fs   *faultfs.FS
	w    *WAL
	last Space
}

const diskSize = 1 << 20

func newFullDisk(t *testing.T) *fullDisk {
	f := &fullDisk{t: t, fs: faultfs.New(), last: -1}
	f.fs.SetCapacity(diskSize)
	f.open()
	return f
}

func (f *fullDisk) open() {
	o := testOptions()
	o.FS, o.MinFree, o.Reserve = f.fs, 64<<10, 128<<10
	w, err := Open(lifeDir, o)
	must(f.t, err)
	f.w, f.last = w, -1
}

// leave makes the file of others so large that so many bytes are free, and looks how much room there is then.
func (f *fullDisk) leave(free int64) (Space, error) {
	f.t.Helper()
	file, err := f.fs.OpenFile("/other", os.O_RDWR|os.O_CREATE, 0o600)
	must(f.t, err)
	must(f.t, file.Truncate(0))
	if size := diskSize - f.fs.Used() - free; size > 0 {
		must(f.t, file.Reserve(size))
	}
	must(f.t, file.Close())
	var why error
	f.last, why = f.w.space(f.last)
	return f.last, why
}

func (f *fullDisk) reserved() bool {
	_, err := f.fs.Stat(filepath.Join(lifeDir, walName, reserveName))
	return err == nil
}

// The reserve is there where there is room, is given up when the disk is full, counts as taken as long as it is missing, and comes
// back before anything is appended again.
func TestReserve(t *testing.T) {
	f := newFullDisk(t)
	if f.reserved() {
		t.Fatal("it is there before anybody has looked")
	}
	for _, step := range []struct {
		free     int64
		want     Space
		reserved bool
	}{
		{300 << 10, SpaceEnough, true},
		{100 << 10, SpaceEnough, true},
		{60 << 10, SpaceLow, true},
		{70 << 10, SpaceLow, true}, // somewhat more must be free
		{98 << 10, SpaceEnough, true},
		{20 << 10, SpaceLow, false},
		{150 << 10, SpaceLow, false}, // 22 KiB beside the reserve
		{220 << 10, SpaceLow, false}, // likewise, and somewhat more must be free
		{230 << 10, SpaceEnough, true},
	} {
		got, why := f.leave(step.free)
		if got != step.want || (why != nil) != (got != SpaceEnough) || f.reserved() != step.reserved {
			t.Errorf("%d bytes free: %v, reserved %v, want %v, %v: %v", step.free, got, f.reserved(), step.want, step.reserved, why)
		}
		if why != nil && (!errors.Is(why, syscall.ENOSPC) || strings.Contains(why.Error(), "to reserve again") == step.reserved) {
			t.Errorf("%d bytes free: %v", step.free, why)
		}
	}
	must(t, f.w.Close())
}

// On a disk that is full to the last byte a member starts with what was reserved, and makes a checkpoint with it, by which it gives up log.
func TestReserve_Start(t *testing.T) {
	f := newFullDisk(t)
	if space, why := f.leave(400 << 10); space != SpaceEnough || !f.reserved() {
		t.Fatal(space, why)
	}
	must(t, f.w.Save(hard(2, 1, 30), entries(2, 31, 2, 100)))
	if _, err := f.leave(0); err == nil || f.reserved() { // given up; others take that, too
		t.Fatal("there is room", err)
	}
	f.leave(0)
	must(t, f.w.Close())
	f.open()
	must(t, f.w.Close())

	f = newFullDisk(t)
	f.leave(400 << 10)
	must(t, f.w.Save(hard(2, 1, 30), entries(2, 31, 2, 100)))
	must(t, f.w.Close())
	other, err := f.fs.OpenFile("/other", os.O_RDWR, 0o600)
	must(t, err)
	fi, err := other.Stat()
	must(t, err)
	must(t, other.Reserve(fi.Size()+diskSize-f.fs.Used())) // nobody watched when it became full
	must(t, other.Close())
	f.open()
	if f.reserved() {
		t.Error("a start on a full disk keeps the reserve")
	}
	must(t, f.w.SaveSnapshot(snapshot(20, 2, "s"), body(payload(20, 2, 60<<10))))
	must(t, f.w.Close())
}
