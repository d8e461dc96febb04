//go:build !linux

package storage

import (
	"errors"
	"io"
	"os"
)

// openSynced opens a segment for writing. Direct writes are not for this system.
func openSynced(path string, _ bool) (syncedFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	return syncedFile{f, false}, err
}

// fdatasync makes a file durable.
func fdatasync(f *os.File) error { return f.Sync() }

func openDirect(string, int64) (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
