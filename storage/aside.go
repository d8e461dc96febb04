package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/baton-ha/baton/internal/vfs"
)

// What is set aside lies in the member's directory itself, which may be the root of a file system, under this name and the time.
// As long as not all is there, the name ends like that of a temporary file.
const (
	asidePrefix = "damaged-"
	asideTime   = "20060102T150405.000000000Z"
	unfinished  = ".tmp"
)

// SetAside moves all that a member has in dir into a directory of its own in there, damaged-<time>, so that dir is Empty, and returns its path.
// What was set aside is kept, is never looked at again by anything here, and can be moved away or deleted. If it is interrupted, Open finds
// what is left damaged, or nothing at all, and SetAside goes on where it was. The error is ErrLocked when the directory is open, ErrForeign when
// it holds files that are not ours, and otherwise the system's, as where a part of it is a file system of its own.
func SetAside(dir string, now time.Time) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("storage: %w", err)
	}
	return disk{vfs.OS}.setAside(dir, now)
}

func (d disk) setAside(dir string, now time.Time) (path string, err error) {
	if _, err := d.classify(dir); err != nil {
		return "", err
	}
	lock, err := d.lockDir(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	names, err := d.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("storage: %w", err)
	}
	path = filepath.Join(dir, asidePrefix+now.UTC().Format(asideTime))
	for _, e := range names {
		if isAside(e.Name()) && strings.HasSuffix(e.Name(), unfinished) {
			path = filepath.Join(dir, strings.TrimSuffix(e.Name(), unfinished))
		}
	}
	if err := d.moveAside(dir, path, names); err != nil {
		return "", fmt.Errorf("storage: set %s aside: %w", dir, err)
	}
	return path, nil
}

// moveAside moves what has one of the names and is ours.
func (d disk) moveAside(dir, path string, names []fs.DirEntry) error {
	to := path + unfinished
	if err := d.mkdir(to); err != nil {
		return err
	}
	if err := d.syncDir(dir); err != nil {
		return err
	}
	for _, e := range names {
		if e.Name() == lockName || isAside(e.Name()) || notOurs(e.Name()) {
			continue
		}
		if err := d.Rename(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	if err := errors.Join(d.syncDir(to), d.syncDir(dir)); err != nil {
		return err
	}
	if _, err := d.Stat(path); err == nil {
		return &fs.PathError{Op: "rename", Path: path, Err: os.ErrExist}
	}
	if err := d.Rename(to, path); err != nil {
		return err
	}
	return d.syncDir(dir)
}

// isAside reports whether a name is that of something which was set aside, wholly or in part.
func isAside(name string) bool { return strings.HasPrefix(name, asidePrefix) }

// condemnedName is the file that says why a directory is not to be opened any more.
const condemnedName = "condemned"

// Condemn makes it durable that the member is not to start with this directory again, and why: Open fails with a *CorruptError that says so,
// until it is set aside. It is for what no start would find, such as damage in a part of the log that is seldom read. It may be called when
// the storage has failed, or is closed.
func (w *WAL) Condemn(why error) error {
	if err := w.disk.writeFile(filepath.Join(w.dir, condemnedName), []byte(why.Error())); err != nil {
		return fmt.Errorf("storage: condemn %s: %w", w.dir, err)
	}
	return nil
}

// condemned returns why the directory was condemned, nil if it was not.
func (d disk) condemned(dir string) error {
	name := filepath.Join(dir, condemnedName)
	why, err := d.readFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fileError(name, 0, err)
	}
	return &CorruptError{File: name, Err: fmt.Errorf("the member has stopped for good with this directory: %s", why)}
}
