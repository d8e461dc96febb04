package storage

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/vfs"
)

// countedFS counts the segments that are opened for reading, those that are still open, and the bytes that are read of them.
type countedFS struct {
	vfs.FS
	opened, open, bytes atomic.Int64
	direct              atomic.Int64 // of opened, past the page cache

	told []span // what was said to be read soon
}

type span struct{ from, to int64 }

func (c *countedFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".wal") || flag&^vfs.Direct != os.O_RDONLY {
		return f, err
	}
	c.opened.Add(1)
	c.open.Add(1)
	if flag&vfs.Direct != 0 {
		c.direct.Add(1)
	}
	return &countedFile{f, c}, nil
}

type countedFile struct {
	vfs.File
	fs *countedFS
}

func (f *countedFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.fs.bytes.Add(int64(n))
	return n, err
}

func (f *countedFile) Ahead(off, size int64) { f.fs.told = append(f.fs.told, span{off, off + size}) }

func (f *countedFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

// TestReadOn: who reads the log in small pieces opens each segment once and reads each byte once, also beside others, and
// from segments in which entries were overwritten.
func TestReadOn(t *testing.T) {
	few := func() uint64 { return 1 + rand.Uint64N(20_000) }
	many := func() uint64 { return core.PieceBytes + rand.Uint64N(20_000) } // as for a member that lags
	t.Run("few at a time", func(t *testing.T) { readOn(t, vfs.OS, t.TempDir(), few, false) })
	t.Run("past the page cache", func(t *testing.T) { readOn(t, vfs.OS, t.TempDir(), many, true) })
	// One that wants memory, offset and size in whole blocks, whatever the kernel does.
	t.Run("few, strictly", func(t *testing.T) { readOn(t, faultfs.New(), "/", few, false) })
	t.Run("past the page cache, strictly", func(t *testing.T) { readOn(t, faultfs.New(), "/", many, true) })
	t.Run("where only the cache is", func(t *testing.T) {
		s := faultfs.New()
		s.NoDirect()
		readOn(t, s, "/", many, true)
	})
}

// readOn reads as many bytes at a time as budget says. past: that is past the page cache, if the log is written so.
func readOn(t *testing.T, fs vfs.FS, dir string, budget func() uint64, past bool) {
	c := &countedFS{FS: fs}
	options := testOptions()
	options.FS, options.SegmentSize = c, 256<<10
	w, err := Open(filepath.Join(dir, "m"), options)
	must(t, err)
	defer w.Close()
	const n, size = 2000, 1000
	term := uint64(2)
	for i := uint64(2); i < n; {
		must(t, w.Save(hard(term, 1, max(1, i-2)), entries(i, i+7, term, size)))
		i += 7
		if i%5 == 0 {
			i, term = i-2, term+1
		}
	}
	segs, held := int64(len(w.segs)), int64(0)
	for _, s := range w.segs {
		held += s.end
	}
	last := w.last
	want, err := w.Entries(2, last+1, 1<<30)
	must(t, err)
	c.opened.Store(0)
	c.direct.Store(0)
	c.bytes.Store(0)
	const readers = 3
	at := [readers]uint64{2, 2, 2}
	for done := 0; done < readers; {
		r := rand.IntN(readers)
		if at[r] > last {
			continue
		}
		got, err := w.Entries(at[r], min(last+1, at[r]+1+rand.Uint64N(20)), budget())
		must(t, err)
		must(t, sameEntries(got, want[at[r]-2:][:len(got)]))
		if at[r] += uint64(len(got)); at[r] > last {
			done++
		}
	}
	if got := c.opened.Load(); segs < 5 || got > readers*segs {
		t.Errorf("%d readers of %d segments have opened %d files", readers, segs, got)
	}
	switch all, direct := c.opened.Load(), c.direct.Load(); {
	case past && w.direct() && direct < all:
		t.Errorf("%d of %d files were opened to be read past the page cache", direct, all)
	case !past && direct > readers:
		t.Errorf("%d files were opened to be read past the page cache", direct)
	case w.direct() && direct == 0:
		t.Error("the last segment, which is written past the page cache, was read through it")
	}
	if got, all := c.bytes.Load(), readers*held; got > all*5/4 {
		t.Errorf("%d bytes were read of %d", got, all)
	}
	must(t, w.Close())
	if got := c.open.Load(); got != 0 {
		t.Errorf("%d files are open", got)
	}
}

// TestReadAheadIsTold: of who reads on the system learns what comes next, each byte once and not too early; of who looks at single entries
// it learns nothing.
func TestReadAheadIsTold(t *testing.T) {
	c := &countedFS{FS: vfs.OS}
	options := testOptions()
	options.FS, options.SegmentSize = c, 4<<20
	w, err := Open(filepath.Join(t.TempDir(), "m"), options)
	must(t, err)
	defer w.Close()
	for i := uint64(2); len(w.segs) < 2; i += 10 {
		must(t, w.Save(hard(2, 1, i-1), entries(i, i+10, 2, 50_000)))
	}
	end, last := w.segs[0].end, w.segs[1].index
	c.bytes.Store(0)
	for at := uint64(2); at < last; {
		got, err := w.Entries(at, last, 120_000)
		must(t, err)
		at += uint64(len(got))
		if n := len(c.told); n > 0 && c.told[n-1].to > c.bytes.Load()+readSoon+runBytes {
			t.Fatalf("%d bytes were read, and %d told of", c.bytes.Load(), c.told[n-1].to)
		}
	}
	for i, s := range c.told {
		if i == 0 && s.from > 3*readAhead || i > 0 && s.from < c.told[i-1].to || s.from >= s.to {
			t.Fatalf("it learns %v", c.told)
		}
	}
	if n := len(c.told); n == 0 || c.told[n-1].to != end {
		t.Errorf("it learns %v of %d bytes", c.told, end)
	}
	c.told = nil
	for at := last - 3; at > 9; at -= 7 {
		_, err := w.Entries(at, at+1, 1<<20)
		must(t, err)
	}
	if len(c.told) > 0 {
		t.Errorf("of single entries it learns %v", c.told)
	}
}

// TestReadersLeaveTheCompactedLog: a file that somebody might read on from does not stay open once its segment is gone.
func TestReadersLeaveTheCompactedLog(t *testing.T) {
	c := &countedFS{FS: vfs.OS}
	options := testOptions()
	options.FS = c
	w, err := Open(filepath.Join(t.TempDir(), "m"), options)
	must(t, err)
	defer w.Close()
	for i := uint64(2); i < 200; i += 10 {
		must(t, w.Save(hard(2, 1, i-1), entries(i, i+10, 2, 1000)))
	}
	_, err = w.Entries(2, 5, 1<<20)
	must(t, err)
	if c.open.Load() != 1 {
		t.Fatalf("%d files are open", c.open.Load())
	}
	must(t, w.SaveSnapshot(snapshot(150, 2, ""), nil))
	must(t, w.SaveSnapshot(snapshot(160, 2, ""), nil))
	must(t, w.Compact(150))
	if got := c.open.Load(); got != 0 {
		t.Errorf("%d files are open", got)
	}
	if _, err := w.Entries(5, 10, 1<<20); !errors.Is(err, ErrCompacted) {
		t.Errorf("got %v", err)
	}
}

// TestFewReadersAreKept: beside few that read on, others begin anew.
func TestFewReadersAreKept(t *testing.T) {
	c := &countedFS{FS: vfs.OS}
	options := testOptions()
	options.FS = c
	w, err := Open(filepath.Join(t.TempDir(), "m"), options)
	must(t, err)
	defer w.Close()
	must(t, w.Save(hard(2, 1, 1), entries(2, 200, 2, 10)))
	for i := range uint64(3 * keepReaders) {
		_, err = w.Entries(2+i, 3+i, 1<<20)
		must(t, err)
		_, err = w.Entries(100, 101+i, 1<<20)
		must(t, err)
	}
	if got := c.open.Load(); got > keepReaders {
		t.Errorf("%d files are open", got)
	}
}
