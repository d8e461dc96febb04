package storage

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"

	"github.com/baton-ha/baton/internal/vfs"
)

func init() { secondOpinion = etcdsOpinion }

// etcdsOpinion has the segments read by etcd's decoder, and compares what it sees after the snapshot with our own reading.
// It also sees entries that a snapshot of the leader has cut off. Nothing is kept but where terms begin.
func etcdsOpinion(w *WAL, segs []*segment, snap snapID) error {
	seen := &view{known: true, base: snap.index, last: snap.index}
	var sum uint32
	for i, s := range segs {
		f, size, err := w.disk.openSized(s.path)
		if err != nil {
			return err
		}
		d := wal.NewDecoder(wholeFile{io.NewSectionReader(f, 0, size), f})
		err = guard("etcd", func() error { return decodeAll(d, i == 0, sum, seen) })
		f.Close()
		if err != nil {
			return fileError(s.path, d.LastOffset(), err)
		}
		sum = d.LastCRC()
	}
	tail := segs[len(segs)-1]
	if seen.last < w.view.last {
		return corrupt(tail.path, tail.end, "etcd: the last entry is %d, want %d", seen.last, w.view.last)
	}
	theirs, ours := seen.termsAfter(snap.index), w.view.termsAfter(snap.index)
	if len(theirs) < len(ours) || !slices.Equal(theirs[:len(ours)], ours) || len(theirs) > len(ours) && theirs[len(ours)].first <= w.view.last {
		return corrupt(tail.path, tail.end, "etcd: terms %v, want %v", theirs, ours)
	}
	return nil
}

// wholeFile is a file as etcd's decoder wants it.
type wholeFile struct {
	io.Reader
	f vfs.File
}

// FileInfo implements [fileutil.FileReader].
func (w wholeFile) FileInfo() (fs.FileInfo, error) { return w.f.Stat() }

// decodeAll adds the entries of one segment to those of the segments before it, whose running checksum is sum.
func decodeAll(d wal.Decoder, first bool, sum uint32, seen *view) error {
	for rec := new(walpb.Record); ; first, sum = false, d.LastCRC() {
		err := d.Decode(rec)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch rec.GetType() {
		case typeCRC:
			if !first && rec.GetCrc() != sum {
				return wal.ErrCRCMismatch
			}
			d.UpdateCRC(rec.GetCrc())
		case typeEntry:
			e := wal.MustUnmarshalEntry(rec.Data)
			if e.GetIndex() <= seen.base {
				continue
			}
			if err := seen.entry(e.GetIndex(), e.GetTerm()); err != nil {
				return err
			}
		}
	}
}

// Records have etcd's types.
func TestTypesAreEtcds(t *testing.T) {
	if ours, etcds := [...]int64{typeMetadata, typeEntry, typeState, typeCRC, typeSnapshot}, [...]int64{
		wal.MetadataType, wal.EntryType, wal.StateType, wal.CrcType, wal.SnapshotType,
	}; ours != etcds {
		t.Errorf("%v, etcd has %v", ours, etcds)
	}
}
