package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A goroutine that waits for the disk in a system call keeps a thread, and with it one of Go's processors until the runtime's monitor takes that away;
// and the monitor looks every 20 µs as long as there is one. So a synced write is handed to the kernel (io_submit), which says by an eventfd that it is
// durable; on that the goroutine waits as on a socket. Where the kernel, a sandbox or a limit (fs.aio-max-nr, descriptors) refuses it, the write is an
// ordinary one.

// WriteAt implements [File]. What is written must not be changed until it returns.
func (f directFile) WriteAt(b []byte, off int64) (n int, err error) {
	slots := asyncWrites
	s := slots.take()
	if s == nil || off < 0 {
		return f.osFile.WriteAt(b, off)
	}
	defer slots.put(s)
	for n < len(b) {
		done, err := s.write(f.File, b[n:], off+int64(n))
		switch {
		case errors.Is(err, errRefused):
			done, err = f.osFile.WriteAt(b[n:], off+int64(n))
			return n + done, err
		case err == nil && done == 0:
			err = io.ErrUnexpectedEOF // as package os has it
		}
		if err != nil {
			return n, &fs.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		n += done
	}
	return n, nil
}

// errRefused says that nothing was written, and that it has to be tried in the ordinary way.
var errRefused = errors.New("vfs: no asynchronous write")

// slots are what writes need that are under way, one each. They are kept for the next write: to give one back to the kernel takes milliseconds.
type slots struct {
	free chan *slot
	made atomic.Int32
	one  func() (*slot, error) // makes another
	off  atomic.Bool           // a lock was taken that would not outlast a write, see keepLock
}

// mostSlots is how many there are. A member needs two at a time, for its log and the zeros ahead of it. What finds none is written in the ordinary way.
const mostSlots = 16

// asyncWrites are those of the process.
var asyncWrites = newSlots(newSlot)

func newSlots(one func() (*slot, error)) *slots {
	return &slots{free: make(chan *slot, mostSlots), one: one}
}

// take returns a slot, nil if none is to be had.
func (s *slots) take() *slot {
	if s.off.Load() {
		return nil
	}
	select {
	case one := <-s.free:
		return one
	default:
	}
	if s.made.Add(1) <= mostSlots {
		if one, err := s.one(); err == nil {
			return one
		}
	}
	s.made.Add(-1)
	return nil // not for ever: a limit may allow it next time, and to ask takes less than a microsecond
}

func (s *slots) put(one *slot) { s.free <- one }

// A slot is the kernel's context of one write at a time.
type slot struct {
	context uintptr
	event   *os.File // becomes readable when the write is done; nobody reads it, since each time it becomes so anew is told
	wait    syscall.RawConn
	number  uint32 // of its descriptor
	request iocb
	result  ioEvent
	look    func(fd uintptr) bool // ended, made once
	buffer  runtime.Pinner        // of the write: the kernel has its address
}

// iocb is the kernel's struct iocb (linux/aio_abi.h).
type iocb struct {
	_       uint64    // data
	_       [2]uint32 // key, flags of the write
	opcode  uint16
	_       int16 // priority
	fd      uint32
	buf     uint64
	bytes   uint64
	offset  int64
	_       uint64
	flags   uint32
	eventFD uint32
}

// ioEvent is the kernel's struct io_event.
type ioEvent struct {
	data, request uint64
	res, res2     int64
}

const (
	iocbPwrite    = 1 // IOCB_CMD_PWRITE
	iocbTellEvent = 1 // IOCB_FLAG_RESFD
)

func newSlot() (*slot, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	s := &slot{number: uint32(fd), event: os.NewFile(uintptr(fd), "eventfd")}
	if s.wait, err = s.event.SyscallConn(); err == nil {
		_, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.context)), 0)
		if errno != 0 {
			err = os.NewSyscallError("io_setup", errno)
		}
	}
	if err != nil {
		s.event.Close()
		return nil, err
	}
	s.look = func(uintptr) bool { return s.ended() }
	return s, nil
}

// write writes what it can of b and returns how much that was. It returns when the kernel is done with b, whatever happens.
func (s *slot) write(f *os.File, b []byte, off int64) (n int, err error) {
	start := unsafe.SliceData(b)
	s.buffer.Pin(start)
	defer s.buffer.Unpin()
	s.request = iocb{
		opcode: iocbPwrite, buf: uint64(uintptr(unsafe.Pointer(start))), bytes: uint64(len(b)), offset: off,
		flags: iocbTellEvent, eventFD: s.number,
	}
	if !s.submit(f) {
		return 0, errRefused // the ordinary write says what is wrong with it
	}
	s.await()
	switch errno := syscall.Errno(-s.result.res); {
	case s.result.res >= 0:
		return int(s.result.res), nil
	case errno == syscall.EINTR:
		return 0, errRefused
	default:
		return 0, errno
	}
}

// submit hands the write to the kernel, which has a hold on the file from then on, and reports whether it was taken.
func (s *slot) submit(f *os.File) (taken bool) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	request := &s.request
	err = conn.Control(func(fd uintptr) { // whoever closes the file waits for this
		request.fd = uint32(fd)
		n, _, _ := unix.Syscall(unix.SYS_IO_SUBMIT, s.context, 1, uintptr(unsafe.Pointer(&request)))
		taken = n == 1
	})
	return taken && err == nil
}

// idleYield is what a yield takes at most if nobody else had anything to do.
const idleYield = 5 * time.Microsecond

// await returns when the write is done. As long as others have something to do it takes turns with them and looks for itself: Go's poller is asked only
// when nobody has, or every 10 ms. Then it waits for the poller.
func (s *slot) await() {
	for began := time.Now(); ; {
		runtime.Gosched()
		if s.ended() {
			return
		}
		now := time.Now()
		if now.Sub(began) < idleYield {
			break
		}
		began = now
	}
	if s.wait.Read(s.look) != nil { // the poller does not take it
		for !s.block() {
		}
	}
}

// ended reports whether the write is done. It does not block.
func (s *slot) ended() bool {
	n, _, _ := unix.RawSyscall6(unix.SYS_IO_GETEVENTS, s.context, 0, 1, uintptr(unsafe.Pointer(&s.result)), 0, 0)
	return n == 1
}

// block waits in a system call until the write is done, or a signal comes, and reports which.
func (s *slot) block() (ended bool) {
	n, _, _ := unix.Syscall6(unix.SYS_IO_GETEVENTS, s.context, 1, 1, uintptr(unsafe.Pointer(&s.result)), 0, 0)
	return n == 1
}
