package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
)

// Probe makes a block durable, leaves nothing behind, and says what goes wrong.
func TestProbe(t *testing.T) {
	o := testOptions()
	disk := faultfs.New()
	o.FS = disk
	w, err := Open(lifeDir, o)
	must(t, err)
	used := disk.Used()
	for range 3 {
		must(t, w.Probe())
	}
	if _, err := disk.Stat(filepath.Join(lifeDir, walName, probeName)); !errors.Is(err, fs.ErrNotExist) || disk.Used() != used {
		t.Errorf("%v, %d bytes are used, and %d before", err, disk.Used(), used)
	}
	disk.SetCapacity(used)
	if err := w.Probe(); err == nil {
		t.Error("a disk without room is well")
	}
	must(t, w.Close())
	disk.SetCapacity(0)
	f, err := disk.OpenFile(filepath.Join(lifeDir, walName, probeName), os.O_WRONLY|os.O_CREATE, 0o600) // a crash left it
	must(t, err)
	must(t, f.Close())
	w, err = Open(lifeDir, o)
	must(t, err)
	must(t, w.Close())
}
