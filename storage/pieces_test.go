package storage

import (
	"io"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
)

// TestLargeBodyIsSyncedInPieces: no sync of a large snapshot has much to do, since the log waits for it.
func TestLargeBodyIsSyncedInPieces(t *testing.T) {
	fs := faultfs.New()
	d := disk{fs}
	must(t, d.mkdir("/snap"))
	most, since := 0, 0
	fs.Inject(func(op *faultfs.Op) faultfs.Fault {
		switch op.Kind {
		case faultfs.OpWrite:
			since += int(op.Size)
			most = max(most, since)
		case faultfs.OpSync:
			since = 0
		}
		return faultfs.Fault{}
	})
	const size, piece = 20 << 20, 100_000
	name, err := d.writeSnapshotFile("/snap", bootSnapshot(), func(w io.Writer) error {
		for n := 0; n < size; n += piece {
			if _, err := w.Write(make([]byte, piece)); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	if most > syncPiece+512<<10 || since != 0 {
		t.Errorf("%d bytes were written before they were synced, and %d never", most, since)
	}
	r, err := d.openSnapshotFile(name)
	must(t, err)
	must(t, r.Close())
}
