package storage

import (
	"io"
	"os"
	"syscall"
)

// openSynced opens a segment for writing. Not every file system can do it directly: then opening it or writing to it
// fails with EINVAL.
func openSynced(path string, direct bool) (syncedFile, error) {
	flags := os.O_RDWR
	if direct {
		flags |= syscall.O_DIRECT | syscall.O_DSYNC
	}
	f, err := os.OpenFile(path, flags, 0)
	return syncedFile{f, direct}, err
}

// fdatasync makes a file's content durable, and of its metadata what is needed to read it.
func fdatasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// directReader reads from a file past the page cache.
type directReader struct {
	f   *os.File
	off int64
	buf []byte // aligned
}

func openDirect(path string, off int64) (io.ReadCloser, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	return &directReader{f: f, off: off, buf: aligned(128 << 10)}, nil
}

// Read implements [io.Reader].
func (r *directReader) Read(p []byte) (int, error) {
	at := roundDown(r.off)
	skip := int(r.off - at)
	want := min(roundUp(skip+len(p)), cap(r.buf))
	n, err := 0, error(syscall.EINTR)
	for err == syscall.EINTR {
		n, err = syscall.Pread(int(r.f.Fd()), r.buf[:want], at)
	}
	if err != nil {
		return 0, os.NewSyscallError("pread", err)
	}
	if n <= skip {
		return 0, io.EOF
	}
	n = copy(p, r.buf[skip:n])
	r.off += int64(n)
	return n, nil
}

// Close implements [io.Closer].
func (r *directReader) Close() error { return r.f.Close() }
