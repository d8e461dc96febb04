package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/baton-ha/baton/internal/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, s vfs.FS, name string, flag int) vfs.File {
	t.Helper()
	f, err := s.OpenFile(name, flag, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, f vfs.File, text string, off int64) {
	t.Helper()
	n, err := f.WriteAt([]byte(text), off)
	must(t, err)
	if n != len(text) {
		t.Fatal(n)
	}
}

// show returns what is in a file system as text.
func show(t *testing.T, s vfs.FS, dir string) string {
	t.Helper()
	names, err := s.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			out = append(out, e.Name()+"("+show(t, s, path)+")")
			continue
		}
		f, err := s.OpenFile(path, os.O_RDONLY, 0)
		must(t, err)
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
		must(t, err)
		must(t, f.Close())
		out = append(out, e.Name()+"="+string(b))
	}
	return strings.Join(out, " ")
}

func errno(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no):
		return no.Error()
	case errors.Is(err, fs.ErrExist):
		return syscall.EEXIST.Error()
	}
	return err.Error()
}

// TestLikeTheRealOne: the same calls have the same results here and on the file system of the operating system.
func TestLikeTheRealOne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	mem := New()
	var made []string
	for at := dir; at != "/"; at = filepath.Dir(at) {
		made = append(made, at)
	}
	for i := len(made) - 1; i >= 0; i-- {
		must(t, mem.Mkdir(made[i], 0o700))
	}
	both := []vfs.FS{vfs.OS, mem}
	var files [2][]vfs.File
	names := []string{"a", "b", "d", "d/a", "d/b", "e", "e/x", "a/y", "."}
	for step := range 3000 {
		name, other := filepath.Join(dir, names[rnd.IntN(len(names))]), filepath.Join(dir, names[rnd.IntN(len(names))])
		if filepath.Dir(name) != filepath.Dir(other) {
			other = filepath.Join(filepath.Dir(name), "z")
		}
		kind, flag := rnd.IntN(14), []int{os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL}[rnd.IntN(3)]
		data, off, size := bytes.Repeat([]byte{byte('a' + step%26)}, rnd.IntN(9000)), rnd.Int64N(20000), rnd.Int64N(20000)
		which := rnd.IntN(max(1, len(files[0])))
		var got [2]string
		for i, s := range both {
			var err error
			switch {
			case kind == 0:
				var f vfs.File
				if f, err = s.OpenFile(name, flag, 0o600); err == nil {
					files[i] = append(files[i], f)
				}
			case kind == 1:
				err = s.Mkdir(name, 0o700)
			case kind == 2:
				err = s.Remove(name)
			case kind == 3:
				a, aerr := s.Stat(name)
				b, berr := s.Stat(other)
				dirs := aerr == nil && a.IsDir() || berr == nil && b.IsDir()
				if !dirs { // there the real one has finer rules, of which we make no use
					err = s.Rename(name, other)
				}
			case kind == 4:
				var fi fs.FileInfo
				if fi, err = s.Stat(name); err == nil && !fi.IsDir() {
					got[i] = fmt.Sprint(fi.Name(), fi.Size(), fi.Mode())
				}
			case which >= len(files[i]):
			case kind < 9:
				var n int
				n, err = files[i][which].WriteAt(data, off)
				got[i] = fmt.Sprint(n)
			case kind == 9:
				err = files[i][which].Truncate(size)
			case kind == 10:
				err = files[i][which].Reserve(size + 1)
			case kind == 11:
				err = files[i][which].Sync()
			case kind == 12:
				b := make([]byte, len(data))
				var n int
				n, err = files[i][which].ReadAt(b, off)
				got[i] = string(b[:n])
			default:
				err = files[i][which].Close()
				files[i] = append(files[i][:which:which], files[i][which+1:]...)
			}
			got[i] += " " + errno(err)
		}
		if got[0] != got[1] {
			t.Fatalf("step %d, kind %d of %s, %s: %q, want %q", step, kind, name, other, got[1], got[0])
		}
		if step%50 == 0 {
			if real, ours := show(t, vfs.OS, dir), show(t, mem, dir); real != ours {
				t.Fatalf("step %d: %.2000q, want %.2000q", step, ours, real)
			}
		}
	}
	for i := range files {
		for _, f := range files[i] {
			must(t, f.Close())
		}
	}
	if used := mem.root.space(); used != mem.Used() {
		t.Errorf("%d bytes used, counted %d", used, mem.Used())
	}
}

// TestCrash: what was synced is there, and nothing else where nothing else is kept.
func TestCrash(t *testing.T) {
	none, all := Loss{}, Loss{Names: All, Data: All}
	for _, c := range []struct {
		name      string
		do        func(t *testing.T, s *FS)
		none, all string
	}{
		{"nothing synced", func(t *testing.T, s *FS) { write(t, open(t, s, "/a", os.O_RDWR|os.O_CREATE), "1", 0) }, "", "a=1"},
		{"file synced, name not", func(t *testing.T, s *FS) {
			f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
			write(t, f, "1", 0)
			must(t, f.Sync())
		}, "", "a=1"},
		{"name synced, file not", func(t *testing.T, s *FS) {
			write(t, open(t, s, "/a", os.O_RDWR|os.O_CREATE), "1", 0)
			must(t, open(t, s, "/", 0).Sync())
		}, "a=", "a=1"},
		{"both", func(t *testing.T, s *FS) {
			f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
			write(t, f, "1", 0)
			must(t, f.Datasync())
			must(t, open(t, s, "/", 0).Sync())
			write(t, f, "2", 1)
		}, "a=1", "a=12"},
		{"written through", func(t *testing.T, s *FS) {
			write(t, open(t, s, "/a", os.O_RDWR|os.O_CREATE), "333", 0)
			write(t, open(t, s, "/a", os.O_RDWR|vfs.Dsync), "1", 0)
			must(t, open(t, s, "/", 0).Sync())
		}, "a=1", "a=133"},
		{"cut", func(t *testing.T, s *FS) {
			f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
			write(t, f, "123", 0)
			must(t, f.Sync())
			must(t, open(t, s, "/", 0).Sync())
			must(t, f.Truncate(1))
		}, "a=123", "a=1"},
		{"renamed", func(t *testing.T, s *FS) {
			f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
			write(t, f, "1", 0)
			must(t, f.Sync())
			must(t, open(t, s, "/", 0).Sync())
			must(t, s.Rename("/a", "/b"))
		}, "a=1", "b=1"},
		{"removed", func(t *testing.T, s *FS) {
			must(t, s.Mkdir("/d", 0))
			open(t, s, "/d/a", os.O_RDWR|os.O_CREATE)
			must(t, open(t, s, "/d", 0).Sync())
			must(t, open(t, s, "/", 0).Sync())
			must(t, s.Remove("/d/a"))
			must(t, s.Remove("/d"))
		}, "d(a=)", ""},
		{"directory not synced", func(t *testing.T, s *FS) {
			must(t, s.Mkdir("/d", 0))
			open(t, s, "/d/a", os.O_RDWR|os.O_CREATE)
			must(t, open(t, s, "/d", 0).Sync())
		}, "", "d(a=)"},
		{"a sync that failed", func(t *testing.T, s *FS) {
			f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
			must(t, open(t, s, "/", 0).Sync())
			write(t, f, "1", 0)
			s.Inject(func(*Op) Fault { return Fault{Err: syscall.EIO} })
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			s.Inject(nil)
			write(t, f, "2", 1)
			must(t, f.Sync())
		}, "a=\x002", "a=12"},
		{"forgotten", func(t *testing.T, s *FS) {
			f := open(t, s, "/a", os.O_RDWR|os.O_CREATE|vfs.Dsync)
			must(t, open(t, s, "/", 0).Sync())
			s.Inject(func(*Op) Fault { return Fault{Forget: true} })
			write(t, f, "1", 0)
			must(t, f.Sync())
			open(t, s, "/b", os.O_RDWR|os.O_CREATE)
			must(t, open(t, s, "/", 0).Sync())
			s.Inject(nil)
		}, "a=", "a=1 b="},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New()
			c.do(t, s)
			now := show(t, s, "/")
			after := s.Crash(none)
			if got := show(t, after, "/"); got != c.none {
				t.Errorf("with nothing kept %q, want %q", got, c.none)
			}
			if again := show(t, after.Crash(none), "/"); again != c.none {
				t.Errorf("after another crash %q", again)
			}
			if got := show(t, s.Crash(all), "/"); got != c.all || got != now {
				t.Errorf("with all kept %q, want %q", got, c.all)
			}
			killed := s.Kill()
			if got := show(t, killed, "/"); got != now {
				t.Errorf("after a kill %q, want %q", got, now)
			}
			if got := show(t, killed.Crash(none), "/"); got != c.none {
				t.Errorf("after a kill and a crash %q, want %q", got, c.none)
			}
			if got := show(t, s, "/"); got != now {
				t.Errorf("the crash has changed %q to %q", now, got)
			}
		})
	}
}

// TestTear: with Some, each combination of the pieces of a write comes about, and no other; with First, names come in order.
func TestTear(t *testing.T) {
	s := New()
	f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
	must(t, f.Truncate(1024))
	must(t, f.Sync())
	must(t, open(t, s, "/", 0).Sync())
	rnd := rand.New(rand.NewPCG(1, 1))
	during := map[string]bool{}
	s.Inject(func(op *Op) Fault {
		for range 200 {
			during[pieces(t, op.Crash(Loss{Data: Some, Tear: 512, Rand: rnd}))] = true
		}
		return Fault{}
	})
	write(t, f, strings.Repeat("x", 1024), 0)
	s.Inject(nil)
	after, whole := map[string]bool{}, map[string]bool{}
	for range 200 {
		after[pieces(t, s.Crash(Loss{Data: Some, Rand: rnd}))] = true
		whole[pieces(t, s.Crash(Loss{Data: Some, Tear: 4096, Rand: rnd}))] = true
	}
	if len(during) != 4 || len(after) != 4 || len(whole) != 2 {
		t.Error(during, after, whole)
	}
	for _, name := range []string{"/b", "/c", "/d"} {
		open(t, s, name, os.O_RDWR|os.O_CREATE)
	}
	ordered, any := map[string]bool{}, map[string]bool{}
	for range 300 {
		for keep, seen := range map[Keep]map[string]bool{First: ordered, Some: any} {
			names, err := s.Crash(Loss{Names: keep, Rand: rnd}).ReadDir("/")
			must(t, err)
			text := ""
			for _, e := range names {
				text += e.Name()
			}
			seen[text] = true
		}
	}
	if len(any) != 8 || fmt.Sprint(ordered) != "map[a:true ab:true abc:true abcd:true]" {
		t.Error(any, ordered)
	}
}

// pieces returns the first byte of each sector of /a.
func pieces(t *testing.T, s *FS) string {
	b := []byte(strings.TrimPrefix(show(t, s, "/"), "a="))
	return string([]byte{b[0], b[512]})
}

func TestCapacity(t *testing.T) {
	s := New()
	if _, known := s.Free("/"); known {
		t.Error("free space is known")
	}
	s.SetCapacity(4 * blockSize)
	f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
	must(t, f.Reserve(2*blockSize))
	n, err := f.WriteAt(make([]byte, 4*blockSize), blockSize+100)
	if n != 3*blockSize-100 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(n, err)
	}
	if free, known := s.Free("/"); free != 0 || !known {
		t.Error(free)
	}
	write(t, f, "there is room in what was reserved", 0)
	if err := f.Reserve(5 * blockSize); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	must(t, s.Remove("/a"))
	if s.Used() != 4*blockSize {
		t.Error("freed while it is open", s.Used())
	}
	must(t, f.Close())
	if s.Used() != 0 {
		t.Error(s.Used())
	}
}

func TestFaults(t *testing.T) {
	s := New()
	f := open(t, s, "/a", os.O_RDWR|os.O_CREATE)
	s.Inject(func(op *Op) Fault {
		if op.Kind == OpWrite {
			return Fault{Err: syscall.EIO, Written: 2}
		}
		return Fault{}
	})
	if n, err := f.WriteAt([]byte("12345"), 0); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Fatal(n, err)
	}
	if got := show(t, s, "/"); got != "a=12" {
		t.Error(got)
	}
	until, reached, done := make(chan struct{}), make(chan struct{}), make(chan error)
	s.Inject(func(op *Op) Fault {
		if op.Kind != OpSync {
			return Fault{}
		}
		close(reached)
		return Fault{Until: until}
	})
	go func() { done <- f.Sync() }()
	<-reached
	write(t, f, "345", 2) // others go on
	close(until)
	must(t, <-done)
}

func TestDirectAndLock(t *testing.T) {
	s := New()
	f := open(t, s, "/a", os.O_RDWR|os.O_CREATE|vfs.Direct)
	b := make([]byte, 3*blockSize)
	b = b[-uintptr(unsafe.Pointer(&b[0]))%blockSize:][:blockSize]
	for name, err := range map[string]error{
		"size":   func() error { _, err := f.WriteAt(b[:100], 0); return err }(),
		"offset": func() error { _, err := f.WriteAt(b, 100); return err }(),
		"memory": func() error { _, err := f.ReadAt(b[1:blockSize+1:blockSize+1], 0); return err }(),
	} {
		if !errors.Is(err, syscall.EINVAL) {
			t.Error(name, err)
		}
	}
	if n, err := f.WriteAt(b, 0); n != blockSize || err != nil {
		t.Error(n, err)
	}
	s.NoDirect()
	if _, err := s.OpenFile("/a", os.O_RDWR|vfs.Direct, 0); !errors.Is(err, syscall.EINVAL) {
		t.Error(err)
	}
	lock, err := s.Lock("/l")
	must(t, err)
	if _, err := s.Lock("/l"); !errors.Is(err, vfs.ErrLocked) {
		t.Error(err)
	}
	after, err := s.Kill().Lock("/l")
	must(t, err)
	must(t, after.Close())
	must(t, lock.Close())
	again, err := s.Lock("/l")
	must(t, err)
	must(t, again.Close())
	if err := again.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}
