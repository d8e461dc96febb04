package storage

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// dataFrom returns from where on, at or behind off, something was written to a file, -1 if nothing was, and off where
// that is not known. What was merely reserved need not be read.
func dataFrom(f io.ReaderAt, off int64) int64 {
	file, ok := f.(*os.File)
	if !ok {
		return off
	}
	at, err := unix.Seek(int(file.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return -1
	case err != nil:
		return off
	}
	return at
}
