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
	"syscall"

	"github.com/baton-ha/baton/internal/vfs"
)

// disk is the file system that a member's directory is on.
type disk struct{ vfs.FS }

// createTemp makes a new file in dir. Its name is the pattern, with something of its own for the star.
func (d disk) createTemp(dir, pattern string) (f vfs.File, err error) {
	before, after, _ := strings.Cut(pattern, "*")
	for range 100 { // that a name is taken is as good as impossible
		name := fmt.Sprintf("%s%08x%s", before, rand.Uint32(), after)
		if f, err = d.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, err
}

// removeTree removes a file, or a directory with all that is in it.
func (d disk) removeTree(path string) error {
	names, err := d.ReadDir(path)
	if errors.Is(err, syscall.ENOTDIR) {
		return d.Remove(path)
	}
	for _, e := range names {
		err = errors.Join(err, d.removeTree(filepath.Join(path, e.Name())))
	}
	if err != nil {
		return err
	}
	return d.Remove(path)
}

func (d disk) syncDir(dir string) error {
	f, err := d.open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
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

// writeFile makes name hold b, or what it held before, whatever happens in between.
func (d disk) writeFile(name string, b []byte) error {
	tmp := name + ".tmp"
	f, err := d.OpenFile(tmp, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.Rename(tmp, name); err != nil {
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
		return nil, fmt.Errorf("storage: lock %s: %w", dir, err)
	}
	return f, nil
}
