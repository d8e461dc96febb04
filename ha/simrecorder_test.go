package ha

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/baton-ha/baton/storage"
)

// recorderStands records while the disk of the recorder stands still: its file is a pipe that nobody reads, so that opening it for writing does not
// return. Whoever records, which is the loop, and whoever reads what is recorded must not notice. This is on the clock on the wall.
func recorderStands(uint64) *simCluster {
	c := new(simCluster)
	dir, err := os.MkdirTemp("", "recorder")
	if err == nil {
		defer os.RemoveAll(dir)
		if err = os.Mkdir(filepath.Join(dir, storage.EventsDir), 0o700); err == nil {
			err = makePipe(filepath.Join(dir, storage.EventsDir, eventFile))
		}
	}
	if err != nil {
		c.check.faults = append(c.check.faults, err.Error())
		return c
	}
	var r recorder
	r.record(Event{Kind: EventOpened})
	written, recorded := make(chan error, 1), make(chan int, 1)
	go func() { written <- r.write(filepath.Join(dir, storage.EventsDir)) }()
	go func() {
		for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
			r.record(Event{Kind: EventElected})
		}
		events, _ := r.after(0)
		recorded <- len(events)
	}()
	stuck := time.NewTimer(10 * time.Second)
	defer stuck.Stop()
	select {
	case n := <-recorded:
		if n < 2 {
			c.check.faults = append(c.check.faults, "what was recorded while the disk stood still is not there")
		}
	case <-stuck.C:
		c.check.faults = append(c.check.faults, "the loop waits for the disk of the recorder (G8)")
	}
	// Somebody reads, so that the writer goes on.
	pipe, err := os.OpenFile(filepath.Join(dir, storage.EventsDir, eventFile), os.O_RDWR, 0)
	if err != nil {
		c.check.faults = append(c.check.faults, err.Error())
		return c
	}
	defer pipe.Close()
	<-written
	return c
}

func TestRecorder_DiskStands(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no pipes in directories")
	}
	t.Parallel()
	for _, fault := range recorderStands(1).check.faults {
		t.Error(fault)
	}
}
