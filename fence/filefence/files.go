package filefence

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// files is what is asked of a file system: a directory. The errors are those of package os.
type files interface {
	list() ([]string, error)
	create(name string) (draft, error) // a file that must not exist
	open(name string) (io.ReadCloser, error)
	link(from, to string) error // fs.ErrExist if to exists
	remove(name string) error
	sync() error // makes the names durable
}

// A draft is a version that has no number yet.
type draft interface {
	io.Writer
	io.WriterAt
	io.Closer
	Sync() error
}

// directory is a real one.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

func (d directory) list() ([]string, error) {
	f, err := os.Open(string(d))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d directory) create(name string) (draft, error) {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err // not f, which would be a draft that is not nil
	}
	return f, nil
}

func (d directory) open(name string) (io.ReadCloser, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d directory) link(from, to string) error { return os.Link(d.path(from), d.path(to)) }

func (d directory) remove(name string) error { return os.Remove(d.path(name)) }

func (d directory) sync() error {
	if runtime.GOOS == "windows" {
		return nil // it syncs no directories, and its file systems journal names
	}
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// gone reports whether an error says that a file does not exist any more, also to who has it open on NFS.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESTALE) }
