package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// probeName is a file that [WAL.Probe] writes, beside the segments.
const probeName = "probe.tmp"

// Probe writes a block of 4 KiB beside the log, makes it durable and deletes it again. How long that takes says how the disk does
// where nothing else is written. One call at a time; it waits for the disk and for nothing else.
func (w *WAL) Probe() error {
	name := filepath.Join(w.dir, walName, probeName)
	f, err := w.disk.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	_, err = f.WriteAt(make([]byte, blockSize), 0)
	if err == nil {
		err = f.Datasync()
	}
	if err = errors.Join(err, f.Close(), w.disk.Remove(name)); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}
