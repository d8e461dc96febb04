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

	segment int64
}

const diskSize = 1 << 20

func newFullDisk(t *testing.T) *fullDisk {
	f := &fullDisk{t: t, fs: faultfs.New(), segment: smallSegment}
	f.fs.SetCapacity(diskSize)
	f.open()
	return f
}

func (f *fullDisk) open() {
	o := testOptions()
	o.FS, o.MinFree, o.Reserve, o.SegmentSize = f.fs, 64<<10, 128<<10, f.segment
	w, err := Open(lifeDir, o)
	must(f.t, err)
	f.w, f.last = w, -1
}

// leave makes the file of others so large that so many bytes are free, and looks how much room there is then.
func (f *fullDisk) leave(free int64) (Space, error) {
	f.t.Helper()
	f.fill(free)
	var why error
	f.last, why = f.w.space(f.last)
	return f.last, why
}

// fill makes the file of others so large that so many bytes are free.
func (f *fullDisk) fill(free int64) {
	f.t.Helper()
	file, err := f.fs.OpenFile("/other", os.O_RDWR|os.O_CREATE, 0o600)
	must(f.t, err)
	for full := true; full; { // the log may make a file ahead meanwhile
		fi, err := file.Stat()
		must(f.t, err)
		size := max(0, roundUp(fi.Size())+diskSize-f.fs.Used()-free)
		if size > fi.Size() {
			err = file.Reserve(size)
		} else {
			err = file.Truncate(size)
		}
		if full = errors.Is(err, syscall.ENOSPC); !full {
			must(f.t, err)
		}
	}
	must(f.t, file.Close())
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

// TestDiskFull_SmallerSegment: where the next segment does not fit, a half or a quarter of it does, and the log goes on in it. Where not even that does, nothing
// is taken from the disk to find out.
func TestDiskFull_SmallerSegment(t *testing.T) {
	const segment = 64 << 10
	f := newFullDisk(t)
	must(t, f.w.Close())
	f.segment = segment
	f.open()
	keep := int64(96<<10 + 128<<10) // one and a half of MinFree, and the reserve, which is not there yet
	for _, step := range []struct{ free, want int64 }{
		{keep + segment/4 - 1, 0}, {keep + segment/4, segment / 4}, {keep + segment/2, segment / 2}, {keep + segment - 1, segment / 2}, {keep + segment, segment},
	} {
		must(t, f.w.supply.close())
		f.fill(step.free)
		used := f.fs.Used()
		err := f.w.supply.prepare()
		if took := f.fs.Used() - used; took != step.want || (err == nil) != (step.want > 0) || err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d bytes free: %d taken, want %d: %v", step.free, took, step.want, err)
		}
	}

	must(t, f.w.supply.close())
	f.fill(keep + segment*3/8)
	last := uint64(1)
	var ends []int64
	for len(ends) < 2 {
		segs := len(f.w.segs)
		last++
		must(t, f.w.Save(hard(2, 1, 1), entries(last, last+1, 2, 1000)))
		if len(f.w.segs) > segs {
			ends = append(ends, f.w.segs[segs-1].end)
			f.fill(keep + segment*3/8)
		}
		if last > 1000 {
			t.Fatal("no next segment is begun")
		}
	}
	if first, second := ends[0], ends[1]; first < segment || second > segment/2 {
		t.Errorf("segments end at %v", ends)
	}
	must(t, f.w.Close())
	f.fill(0)
	f.open() // a start does not take what is not there, either
	if got, err := f.w.Entries(2, last+1, 1<<40); err != nil || sameEntries(got, entries(2, last+1, 2, 1000)) != nil {
		t.Errorf("after a restart: %d entries, %v", len(got), err)
	}
	must(t, f.w.Close())
}
