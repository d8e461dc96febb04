package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// close gives a slot without a write back.
func (s *slot) close() {
	_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, s.context, 0, 0)
	s.event.Close()
}

// slotsOf makes the writes of the test take slots that are made by make, and returns how many were.
func slotsOf(t *testing.T, make func() (*slot, error)) *atomic.Int64 {
	before := asyncWrites
	made := new(atomic.Int64)
	asyncWrites = newSlots(func() (*slot, error) {
		made.Add(1)
		return make()
	})
	t.Cleanup(func() {
		for len(asyncWrites.free) > 0 {
			(<-asyncWrites.free).close()
		}
		asyncWrites = before
	})
	return made
}

// openDirect opens a new file past the page cache, or skips the test.
func openDirect(t *testing.T, flag int) File {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OS.OpenFile(name, flag|Direct|Dsync, 0)
	if errors.Is(err, syscall.EINVAL) {
		t.Skip("the file system has no direct writes")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// blocks returns so many blocks of memory that begin at a multiple of a block, all filled with one byte.
func blocks(n int, with byte) []byte {
	b := make([]byte, (n+1)*4096)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 4095
	b = b[skip:][:n*4096]
	for i := range b {
		b[i] = with
	}
	return b
}

// TestDirectWrites: a write that is handed to the kernel does and says what an ordinary one does, whatever comes of it.
func TestDirectWrites(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	const limit = 10 * 4096
	cases := []struct {
		name string
		flag int
		do   func(f File) (int, error)
	}{
		{"whole", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(blocks(3, 'a'), 4096) }},
		{"nothing", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(nil, 4096) }},
		{"odd size", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(blocks(1, 'a')[:100], 0) }},
		{"odd offset", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(blocks(1, 'a'), 100) }},
		{"before the file", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(blocks(1, 'a'), -4096) }},
		{"for reading", os.O_RDONLY, func(f File) (int, error) { return f.WriteAt(blocks(1, 'a'), 0) }},
		{"closed", os.O_RDWR, func(f File) (int, error) { f.Close(); return f.WriteAt(blocks(1, 'a'), 0) }},
		{"over the limit", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(blocks(4, 'a'), limit-2*4096) }},
		{"behind the limit", os.O_RDWR, func(f File) (int, error) { return f.WriteAt(blocks(4, 'a'), limit) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			show := func(make func() (*slot, error)) string {
				made := slotsOf(t, make)
				f := openDirect(t, c.flag)
				var before unix.Rlimit
				if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
					t.Fatal(err)
				}
				if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: before.Max}); err != nil {
					t.Fatal(err)
				}
				n, err := c.do(f)
				if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
					t.Fatal(err)
				}
				if made.Load() != 1 {
					t.Errorf("a slot was taken %d times", made.Load())
				}
				if err != nil {
					n = -1 // package os forgets what it wrote before an error
				}
				var of *fs.PathError
				if errors.As(err, &of) {
					of.Path = "" // another directory each time
				}
				content, rerr := os.ReadFile(f.Name())
				if rerr != nil {
					t.Fatal(rerr)
				}
				return fmt.Sprintf("%d bytes, %v, then the file holds %d bytes %x", n, err, len(content), bytes.Trim(content, "\x00"))
			}
			ordinary := show(func() (*slot, error) { return nil, syscall.ENOSYS })
			if handed := show(needSlot(t)); handed != ordinary {
				t.Errorf("%.300s\nordinary: %.300s", handed, ordinary)
			}
		})
	}
}

// needSlot is newSlot, and skips the test where there is none.
func needSlot(t *testing.T) func() (*slot, error) {
	return func() (*slot, error) {
		s, err := newSlot()
		if err != nil {
			t.Skip(err)
		}
		return s, nil
	}
}

// TestDirectWritesTogether: writes that are under way at the same time do not meet, more of them than there are slots, while memory is collected.
func TestDirectWritesTogether(t *testing.T) {
	made := slotsOf(t, newSlot)
	f := openDirect(t, os.O_RDWR)
	const writers, rounds = 3 * mostSlots, 20
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for r := range rounds {
				b := blocks(2, byte(1+(w+r)%255))
				if n, err := f.WriteAt(b, int64(w*len(b))); n != len(b) || err != nil {
					t.Errorf("writer %d: %d bytes, %v", w, n, err)
					return
				}
				got := blocks(2, 0)
				if _, err := f.ReadAt(got, int64(w*len(b))); err != nil || !bytes.Equal(got, b) {
					t.Errorf("writer %d, round %d: something else is there: %v", w, r, err)
					return
				}
				if r%8 == 0 {
					runtime.GC()
				}
			}
		})
	}
	all.Wait()
	if kept := len(asyncWrites.free); kept > mostSlots || int64(kept) != made.Load() {
		t.Errorf("%d slots were made, and %d are kept", made.Load(), kept)
	}
}

// heldUp is what a slot waits on, which waits for more.
type heldUp struct {
	syscall.RawConn
	waits, goOn chan struct{}
}

func (h heldUp) Read(look func(fd uintptr) bool) error {
	h.waits <- struct{}{}
	<-h.goOn
	return h.RawConn.Read(look)
}

// TestDirectWriteUnderWay: nobody gets the slot of a write that is under way.
func TestDirectWriteUnderWay(t *testing.T) {
	slotsOf(t, newSlot)
	s, err := newSlot()
	if err != nil {
		t.Skip(err)
	}
	h := heldUp{s.wait, make(chan struct{}), make(chan struct{})}
	s.wait = h
	asyncWrites.made.Add(1)
	asyncWrites.put(s)
	f, b := openDirect(t, os.O_RDWR), blocks(64, 'a')
	for range 100 {
		done := make(chan error)
		go func() {
			_, err := f.WriteAt(b, 0)
			done <- err
		}()
		select {
		case <-h.waits:
			other := asyncWrites.take()
			if other == s {
				t.Error("the slot of a write that is under way is given to another")
			}
			if other != nil {
				asyncWrites.put(other)
			}
			h.goOn <- struct{}{}
			if err := <-done; err != nil {
				t.Error(err)
			}
			return
		case err := <-done: // it was done before it was waited for
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Skip("writes are done at once here")
}

// TestDirectWriteRefused: where the kernel or a limit refuses, the write is an ordinary one, and the next one may be none.
func TestDirectWriteRefused(t *testing.T) {
	var refuse error
	slotsOf(t, func() (*slot, error) {
		if refuse != nil {
			return nil, refuse
		}
		return needSlot(t)()
	})
	f := openDirect(t, os.O_RDWR)
	for i, why := range []error{syscall.ENOSYS, syscall.EPERM, syscall.EAGAIN, syscall.EMFILE, nil} {
		refuse = why
		if n, err := f.WriteAt(blocks(1, byte(i)), 0); n != 4096 || err != nil {
			t.Errorf("%v: %d bytes, %v", refuse, n, err)
		}
	}
	if len(asyncWrites.free) != 1 {
		t.Error("no slot is kept once there is one")
	}
}

// TestDirectWriteWithoutPoller: what Go's poller does not take is waited for in a system call.
func TestDirectWriteWithoutPoller(t *testing.T) {
	s, err := newSlot()
	if err != nil {
		t.Skip(err)
	}
	defer s.close()
	closed, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if s.wait, err = closed.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	closed.Close()
	f := openDirect(t, os.O_RDWR).(directFile)
	for range 100 {
		if n, err := s.write(f.File, blocks(64, 'a'), 0); n != 64*4096 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
}
