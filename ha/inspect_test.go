package ha_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A directory can be looked into while its member runs, and when files in it are damaged.
func TestInspect(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) {
		shortLog(cfg)
		steady(cfg)
	})
	c.startAll()
	n, token := c.active()
	for i := range uint64(200) {
		c.put(number(i))
	}
	dir := filepath.Join(c.dir, n.Status().Name)
	var x ha.Inspection
	eventually(t, "a checkpoint is there", func() (ok bool) {
		var err error
		if x, err = ha.Inspect(dir); err != nil {
			t.Fatal(err)
		}
		return x.Checkpoint.Index > 0 && len(x.Faults) == 0 && x.Events > 0
	})
	if x.Identity.Member != n.Status().Name || !x.Born || strings.Trim(x.ClusterID, "0") == "" || len(x.Segments) == 0 || x.Segments[0].Bytes == 0 ||
		len(x.Snapshots) == 0 || x.Snapshots[0].State <= 0 || x.Snapshots[0].Index != x.Newest.GetMetadata().GetIndex() || x.Used == 0 || x.Durable.Last == 0 {
		t.Errorf("%+v", x.Inspection)
	}
	if last := x.Checkpoint.Epochs[len(x.Checkpoint.Epochs)-1]; last.Epoch != token.Epoch || last.Holder != token.Holder || len(x.Checkpoint.Members) != 1 {
		t.Errorf("%+v", x.Checkpoint)
	}
	if x.Last.Member != n.Status().Name {
		t.Errorf("the last event is %v", x.Last)
	}
	c.stop(n.Status().Name)
	if err := os.Truncate(x.Snapshots[0].File, 20); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "mark")); err != nil {
		t.Fatal(err)
	}
	if x, err := ha.Inspect(dir); err != nil || len(x.Faults) == 0 || !strings.Contains(strings.Join(x.Faults, "\n"), "mark") {
		t.Errorf("damaged: %+v, %v", x.Inspection, err)
	}
	if _, err := ha.Inspect(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
}
