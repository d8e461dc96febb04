package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/vfs"
)

// An Inspection is what the files of a member's directory say of themselves.
type Inspection struct {
	Identity  Identity          `json:"identity"`
	ClusterID [16]byte          `json:"-"`
	Born      bool              `json:"born"`            // it belongs to a cluster that has begun
	Met       map[string]uint64 `json:"met,omitempty"`   // other members, with the incarnations that it knows
	Condemned string            `json:"condemned"`       // why it is not to be opened any more; empty: it may be
	Aside     []string          `json:"aside,omitempty"` // directories in it with what was set aside
	Used      int64             `json:"used_bytes"`      // of all of its files, without those

	// Durable says how far the log was synced when the mark was written last.
	Durable Durable `json:"durable"`
	// Segments are the files of the log, oldest first, Snapshots those of checkpoints, newest first.
	Segments  []SegmentFile  `json:"segments"`
	Snapshots []SnapshotFile `json:"snapshots"`
	// Faults are files that could not be read, or hold what they must not. While a member runs one may be gone meanwhile.
	Faults []string `json:"faults,omitempty"`

	// Newest is the header of the newest snapshot that can be read, nil if there is none.
	Newest *raftpb.Snapshot `json:"-"`
}

// Durable is what the mark says. Numbers are raft's: terms, and indexes of its entries.
type Durable struct {
	Term     uint64 `json:"term"`
	Vote     uint64 `json:"vote"` // raft id of who got this member's vote in Term, 0: nobody
	LastTerm uint64 `json:"last_term"`
	Last     uint64 `json:"last_index"`
	Snapshot uint64 `json:"snapshot_index"`
}

// A SegmentFile is one file of the log.
type SegmentFile struct {
	File  string `json:"file"`
	Seq   uint64 `json:"sequence"`
	First uint64 `json:"first_index"` // the first raft entry that may be in it
	Bytes int64  `json:"bytes"`
}

// A SnapshotFile is the file of one snapshot.
type SnapshotFile struct {
	File  string `json:"file"`
	Index uint64 `json:"index"` // raft's
	Term  uint64 `json:"term"`
	Bytes int64  `json:"bytes"`
	State int64  `json:"state_bytes"` // of the state machine's state, -1 where the file cannot be read
}

// Inspect looks into a member's directory, which a member may have open meanwhile: it takes no lock, writes nothing, and reads only the
// beginnings and ends of files. What it says is not proved, as [Verify] does. Errors are [ErrForeign], [ErrNoMember], and
// one that says why the identity cannot be read.
func Inspect(dir string) (*Inspection, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return disk{vfs.OS}.inspect(dir)
}

func (d disk) inspect(dir string) (*Inspection, error) {
	switch state, err := d.classify(dir); {
	case err != nil:
		return nil, err
	case state == dirEmpty:
		return nil, fmt.Errorf("%w in %s: %w", ErrNoMember, dir, fs.ErrNotExist)
	}
	body, err := d.readIdentity(dir)
	if err != nil {
		return nil, err
	}
	x := &Inspection{Identity: body.Identity, Born: !body.Unborn, Met: body.Peers}
	copy(x.ClusterID[:], body.ClusterID)
	if err := d.condemned(dir); err != nil {
		x.Condemned = err.Error()
	}
	x.note(d.inspectMark(x, filepath.Join(dir, markName)))
	x.note(d.inspectLog(x, filepath.Join(dir, walName)))
	x.note(d.inspectSnapshots(x, filepath.Join(dir, snapName)))
	x.note(d.inspectRest(x, dir))
	return x, nil
}

// note keeps what is wrong.
func (x *Inspection) note(err error) {
	if err != nil {
		x.Faults = append(x.Faults, strings.TrimPrefix(err.Error(), "storage: "))
	}
}

func (d disk) inspectMark(x *Inspection, name string) error {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	newest := uint64(0)
	for slot := int64(0); slot < markSize; slot += markSlot {
		s, n, blank, err := readSlot(f, slot, x.Identity.Incarnation)
		switch {
		case err != nil:
			return err
		case n == 0 && !blank:
			x.note(corrupt(name, slot, "unreadable slot"))
		case n > newest:
			newest = n
			x.Durable = Durable{Term: s.hs.term, Vote: s.hs.vote, LastTerm: s.lastTerm, Last: s.last, Snapshot: s.snap}
		}
	}
	return nil
}

func (d disk) inspectLog(x *Inspection, dir string) error {
	segs, before, err := d.listSegments(dir)
	if err != nil {
		return err
	}
	for _, s := range slices.Concat(before, segs) {
		size, err := d.sizeOf(s.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was given up since
		}
		x.note(err)
		x.Segments = append(x.Segments, SegmentFile{File: s.path, Seq: s.seq, First: s.index, Bytes: size})
	}
	return nil
}

func (d disk) inspectSnapshots(x *Inspection, dir string) error {
	ids, err := d.listSnapshots(dir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		path := filepath.Join(dir, id.file(snapExt))
		size, err := d.sizeOf(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		x.note(err)
		file := SnapshotFile{File: path, Index: id.index, Term: id.term, Bytes: size, State: -1}
		if r, err := d.openSnapshotFile(path); err != nil {
			x.note(err)
		} else {
			if file.State = r.body; x.Newest == nil {
				x.Newest = r.snap
			}
			x.note(r.Close())
		}
		x.Snapshots = append(x.Snapshots, file)
	}
	return nil
}

// inspectRest adds up the sizes of all files, and finds what was set aside.
func (d disk) inspectRest(x *Inspection, dir string) error {
	names, err := d.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), asidePrefix):
			x.Aside = append(x.Aside, path)
		case e.IsDir():
			below, err := d.ReadDir(path)
			if err != nil {
				return err
			}
			for _, f := range below {
				size, _ := d.sizeOf(filepath.Join(path, f.Name())) // it may be gone
				x.Used += size
			}
		default:
			size, _ := d.sizeOf(path)
			x.Used += size
		}
	}
	return nil
}

func (d disk) sizeOf(path string) (int64, error) {
	info, err := d.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
