package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/baton-ha/baton/internal/vfs"
)

// disk is the file system that a member's directory is on.
type disk struct{ vfs.FS }

// A change is one that is made to a directory or to what is in it, or makes such changes durable. All of them go through
// the functions here, so that a test can record them and see what a crash may leave at any point (TestCrashStates).
type change struct {
	op   changeOp
	path string   // of a name that is made, removed, or moved; of a directory that is synced
	to   string   // where it is moved
	file vfs.File // that is written, cut or synced
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
func (d disk) createFile(name string, flag int) (f vfs.File, err error) {
	err = change{op: opCreate, path: name}.make(func() error {
		f, err = d.OpenFile(name, flag|os.O_CREATE, 0o600)
		return err
	})
	return f, err
}

// createTemp makes a new file in dir. Its name is the pattern, with something of its own for the star.
func (d disk) createTemp(dir, pattern string) (f vfs.File, err error) {
	before, after, _ := strings.Cut(pattern, "*")
	err = change{op: opCreate, path: dir}.make(func() error {
		for range 100 { // that a name is taken is as good as impossible
			name := fmt.Sprintf("%s%08x%s", before, rand.Uint32(), after)
			if f, err = d.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
				break
			}
		}
		return err
	})
	return f, err
}

func (d disk) newDir(dir string) error {
	return change{op: opMkdir, path: dir}.make(func() error { return d.Mkdir(dir, 0o700) })
}

func (d disk) rename(from, to string) error {
	return change{op: opRename, path: from, to: to}.make(func() error { return d.Rename(from, to) })
}

func (d disk) remove(name string) error {
	return change{op: opRemove, path: name}.make(func() error { return d.Remove(name) })
}

// removeTree removes a file, or a directory with all that is in it.
func (d disk) removeTree(path string) error {
	names, err := d.ReadDir(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return d.remove(path)
	}
	for _, e := range names {
		err = errors.Join(err, d.removeTree(filepath.Join(path, e.Name())))
	}
	if err != nil {
		return err
	}
	return d.remove(path)
}

func (d disk) syncDir(dir string) error {
	return change{op: opSyncDir, path: dir}.make(func() error {
		f, err := d.open(dir)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// open opens a file for reading.
func (d disk) open(name string) (vfs.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

// readFile returns what a file holds.
func (d disk) readFile(name string) ([]byte, error) {
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
	return b, errors.Join(err, f.Close())
}

// openSized also returns its size.
func (d disk) openSized(path string) (vfs.File, int64, error) {
	f, err := d.open(path)
	if err != nil {
		return nil, 0, fileError(path, 0, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fileError(path, 0, err)
	}
	return f, fi.Size(), nil
}

// writeAt writes b. synced: the file is open so that it is durable then.
func writeAt(f vfs.File, b []byte, off int64, synced bool) error {
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

func truncate(f vfs.File, size int64) error {
	return change{op: opTruncate, file: f, off: size}.make(func() error { return f.Truncate(size) })
}

func syncFile(f vfs.File) error {
	return change{op: opSync, file: f}.make(f.Sync)
}

// datasync makes a file's content durable, and of its metadata what is needed to read it.
func datasync(f vfs.File) error {
	return change{op: opSync, file: f}.make(f.Datasync)
}

// A fileWriter writes a new file from its beginning on.
type fileWriter struct {
	f vfs.File
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
func (d disk) writeFile(name string, b []byte) error {
	tmp := name + ".tmp"
	f, err := d.createFile(tmp, os.O_WRONLY)
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
	if err := d.rename(tmp, name); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(name))
}

// lockDir takes the lock of dir, or returns ErrLocked. Closing the file releases it.
func (d disk) lockDir(dir string) (vfs.File, error) {
	f, err := d.Lock(filepath.Join(dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
