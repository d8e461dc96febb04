package vfs

import (
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

// OS is the file system of the operating system.
var OS FS = osFS{}

type osFS struct{}

// OpenFile implements [FS].
func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := openFile(name, flag, perm)
	if err != nil {
		return nil, err // not a File that is none
	}
	if flag&Direct != 0 {
		return directFile{osFile{f}}, nil
	}
	return osFile{f}, nil
}

// Lock implements [FS].
func (osFS) Lock(name string) (File, error) {
	if fi, err := os.Stat(name); err == nil && ours.has(fi) {
		return nil, ErrLocked
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	held, err := tryLock(f)
	for began := time.Now(); held && time.Since(began) < lockPatience && !heldByLiving(f); {
		time.Sleep(lockPatience / 200)
		held, err = tryLock(f)
	}
	if held || err != nil {
		f.Close()
	}
	switch {
	case held:
		return nil, ErrLocked
	case err != nil:
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	locked := &lockedFile{osFile{f}, fi, keepLock(f)}
	ours.add(locked)
	return locked, nil
}

// A lockedFile gives its lock back when it is closed, although a process that was begun meanwhile may have its descriptor for a moment yet.
type lockedFile struct {
	osFile
	info fs.FileInfo
	kept func()
}

func (f *lockedFile) Close() error {
	defer ours.remove(f)
	f.kept()
	unlock(f.File)
	return f.osFile.Close()
}

// ours are the files that this process has locked. Lock opens none of them once more: to close that would give back a lock that is the process's.
var ours lockedFiles

type lockedFiles struct {
	mu    sync.Mutex // guards files
	files []*lockedFile
}

func (l *lockedFiles) has(fi fs.FileInfo) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.files, func(f *lockedFile) bool { return os.SameFile(f.info, fi) })
}

func (l *lockedFiles) add(f *lockedFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, f)
}

func (l *lockedFiles) remove(f *lockedFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = slices.DeleteFunc(l.files, func(g *lockedFile) bool { return g == f })
}

// Mkdir implements [FS].
func (osFS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename implements [FS].
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [FS].
func (osFS) Remove(name string) error { return os.Remove(name) }

// ReadDir implements [FS].
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat implements [FS].
func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SameFile implements [FS].
func (osFS) SameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) }

// Free implements [FS].
func (osFS) Free(name string) (int64, bool) { return freeSpace(name) }

type osFile struct{ *os.File }

// Reserve implements [File].
func (f osFile) Reserve(size int64) error { return reserve(f.File, size) }

// grow makes a file as long as that, if it is shorter.
func grow(f *os.File, size int64) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// Datasync implements [File].
func (f osFile) Datasync() error { return fdatasync(f.File) }

// Ahead implements [File].
func (f osFile) Ahead(off, size int64) { ahead(f.File, off, size) }

// Data implements [File].
func (f osFile) Data(off int64) (from, to int64) { return dataFrom(f.File, off) }

type directFile struct{ osFile }

// ReadAt implements [File]. That of os.File would go on behind the end of the file, where no multiple of a block is.
func (f directFile) ReadAt(b []byte, off int64) (int, error) {
	return readBlocks(b, off, func(b []byte, off int64) (int, error) { return pread(f.File, b, off) })
}

// readBlocks reads by a system call that may bring less than it is asked for, as before a block that the disk cannot read. Only less than whole blocks
// is the end of the file, or nothing at all.
func readBlocks(b []byte, off int64, read func(b []byte, off int64) (int, error)) (n int, err error) {
	for n < len(b) {
		m, err := read(b[n:], off+int64(n))
		n += m
		switch {
		case err != nil:
			return n, err
		case m == 0, m%blockSize != 0:
			return n, io.EOF
		}
	}
	return n, nil
}

// blockSize is that of files that are read and written past the page cache.
const blockSize = 4096

// Ahead implements [File]. Linux would read into the page cache.
func (f directFile) Ahead(off, size int64) {}
