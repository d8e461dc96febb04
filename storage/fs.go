package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// A change is one that is made to a directory or to what is in it, or makes such changes durable. All of them go through
// the functions here, so that a test can record them and see what a crash may leave at any point (TestCrashStates).
type change struct {
	op   changeOp
	path string   // of a name that is made, removed, or moved; of a directory that is synced
	to   string   // where it is moved
	file *os.File // that is written, cut or synced
	off  int64    // of data, or the size to which the file is cut or made
	data []byte
}

type changeOp int

const (
	opCreate changeOp = iota
	opMkdir
	opRename
	opRemove
	opSyncDir
	opWrite
	opWriteSynced // the write is durable when it returns
	opTruncate
	opReserve
	opSync
)

// recorder is called with each change, and makes it by calling fn. It is nil but in tests.
var recorder atomic.Pointer[func(c change, fn func() error) error]

func (c change) make(fn func() error) error {
	if r := recorder.Load(); r != nil {
		return (*r)(c, fn)
	}
	return fn()
}

// createFile opens a file for writing, which need not be there.
func createFile(name string, flag int) (f *os.File, err error) {
	err = change{op: opCreate, path: name}.make(func() error {
		f, err = os.OpenFile(name, flag|os.O_CREATE, 0o600)
		return err
	})
	return f, err
}

// createTemp makes a new file in dir.
func createTemp(dir, pattern string) (f *os.File, err error) {
	err = change{op: opCreate, path: dir}.make(func() error {
		f, err = os.CreateTemp(dir, pattern)
		return err
	})
	return f, err
}

func newDir(dir string) error {
	return change{op: opMkdir, path: dir}.make(func() error { return os.Mkdir(dir, 0o700) })
}

func rename(from, to string) error {
	return change{op: opRename, path: from, to: to}.make(func() error { return os.Rename(from, to) })
}

func remove(name string) error {
	return change{op: opRemove, path: name}.make(func() error { return os.Remove(name) })
}

// removeTree removes a file, or a directory with all that is in it.
func removeTree(path string) error {
	names, err := os.ReadDir(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return remove(path)
	}
	for _, e := range names {
		err = errors.Join(err, removeTree(filepath.Join(path, e.Name())))
	}
	if err != nil {
		return err
	}
	return remove(path)
}

func syncDir(dir string) error {
	return change{op: opSyncDir, path: dir}.make(func() error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	})
}

// writeAt writes b. synced: the file is open so that it is durable then.
func writeAt(f *os.File, b []byte, off int64, synced bool) error {
	if recorder.Load() == nil { // nothing is allocated for each write
		_, err := f.WriteAt(b, off)
		return err
	}
	op := opWrite
	if synced {
		op = opWriteSynced
	}
	return change{op: op, file: f, off: off, data: b}.make(func() error {
		_, err := f.WriteAt(b, off)
		return err
	})
}

func truncate(f *os.File, size int64) error {
	return change{op: opTruncate, file: f, off: size}.make(func() error { return f.Truncate(size) })
}

func syncFile(f *os.File) error {
	return change{op: opSync, file: f}.make(f.Sync)
}

// datasync makes a file's content durable, and of its metadata what is needed to read it.
func datasync(f *os.File) error {
	return change{op: opSync, file: f}.make(func() error { return fdatasync(f) })
}

// A fileWriter writes a new file from its beginning on.
type fileWriter struct {
	f *os.File
	n int64
}

func (w *fileWriter) Write(p []byte) (int, error) {
	if err := writeAt(w.f, p, w.n, false); err != nil {
		return 0, err
	}
	w.n += int64(len(p))
	return len(p), nil
}

// writeFile makes name hold b, or what it held before, whatever happens in between.
func writeFile(name string, b []byte) error {
	tmp := name + ".tmp"
	f, err := createFile(tmp, os.O_WRONLY)
	if err != nil {
		return err
	}
	if err = truncate(f, 0); err == nil {
		err = writeAt(f, b, 0, false)
	}
	if err == nil {
		err = syncFile(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := rename(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// lockDir takes the lock of dir, or returns ErrLocked. Closing the file releases it.
func lockDir(dir string) (*os.File, error) {
	f, err := fileutil.TryLockFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f.File, nil
}
