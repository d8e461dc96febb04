package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// A Disk is a member's storage in memory, with the semantics of a log.Storage whose every call is
// synced when it returns. What the simulator begins to write and has not finished when the member
// crashes, it does not give to the disk, or only a part of it: that is how data is lost.
type Disk struct {
	hard   *raftpb.HardState
	snap   *raftpb.Snapshot
	body   []byte
	staged map[uint64][]byte // bodies of snapshots that are not in force, by raft index
	first  uint64            // raft index of ents[0]
	ents   []*raftpb.Entry
}

// NewDisk returns the disk of a new member.
func NewDisk(boot *raftpb.Snapshot) *Disk {
	return &Disk{
		hard: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: new(uint64(1))},
		snap: boot, first: boot.GetMetadata().GetIndex() + 1, staged: map[uint64][]byte{},
	}
}

// Recovered implements log.Storage.
func (d *Disk) Recovered() (*raftpb.HardState, *raftpb.Snapshot, []*raftpb.Entry) {
	after := d.snap.GetMetadata().GetIndex() + 1
	return d.hard, d.snap, slices.Clone(d.ents[after-d.first:])
}

// Save implements log.Storage. It is as strict as the real one.
func (d *Disk) Save(hard *raftpb.HardState, ents []*raftpb.Entry) error {
	for n, e := range ents {
		i := e.GetIndex()
		if n > 0 && i != ents[n-1].GetIndex()+1 {
			return fmt.Errorf("sim: entry %d follows entry %d in one write", i, ents[n-1].GetIndex())
		}
		if i <= d.hard.GetCommit() {
			return fmt.Errorf("sim: entry %d is committed", i)
		}
		if i < d.first || i > d.first+uint64(len(d.ents)) {
			return fmt.Errorf("sim: entry %d does not follow [%d, %d)", i, d.first, d.first+uint64(len(d.ents)))
		}
		if keep := i - d.first; keep < uint64(len(d.ents)) {
			d.ents = slices.Clone(d.ents[:keep])
		}
		d.ents = append(d.ents, e)
	}
	if hard != nil {
		d.hard = hard
	}
	return nil
}

// Entries implements log.Storage.
func (d *Disk) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if lo < d.first || hi > d.first+uint64(len(d.ents)) || lo >= hi {
		return nil, fmt.Errorf("sim: entries [%d, %d) of [%d, %d)", lo, hi, d.first, d.first+uint64(len(d.ents)))
	}
	ents, size := d.ents[lo-d.first:hi-d.first], uint64(0)
	for i, e := range ents {
		if size += uint64(len(e.GetData())); size > maxBytes && i > 0 {
			return ents[:i:i], nil
		}
	}
	return ents[:len(ents):len(ents)], nil
}

// First implements log.Storage.
func (d *Disk) First() uint64 { return d.first }

// Has reports whether one of the last entries holds a piece of data.
func (d *Disk) Has(data []byte) bool {
	for i := len(d.ents) - 1; i >= 0 && i >= len(d.ents)-256; i-- {
		if bytes.Contains(d.ents[i].GetData(), data) {
			return true
		}
	}
	return false
}

// SaveSnapshot implements log.Storage.
func (d *Disk) SaveSnapshot(snap *raftpb.Snapshot, body io.WriterTo) error {
	if snap.GetMetadata().GetIndex() <= d.snap.GetMetadata().GetIndex() {
		return nil
	}
	var b bytes.Buffer
	if body != nil {
		if _, err := body.WriteTo(&b); err != nil {
			return err
		}
	}
	d.snap, d.body = snap, b.Bytes()
	return nil
}

// StageSnapshot implements log.Storage.
func (d *Disk) StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error {
	b, err := io.ReadAll(body)
	d.staged[snap.GetMetadata().GetIndex()] = b
	return err
}

// InstallSnapshot implements log.Storage.
func (d *Disk) InstallSnapshot(snap *raftpb.Snapshot, hard *raftpb.HardState) error {
	i := snap.GetMetadata().GetIndex()
	body, ok := d.staged[i]
	if !ok {
		return fmt.Errorf("sim: snapshot %d is not staged", i)
	}
	for old := range d.staged {
		if old <= i {
			delete(d.staged, old)
		}
	}
	d.snap, d.body, d.first, d.ents = snap, body, i+1, nil
	if hard != nil {
		d.hard = hard
	}
	return nil
}

// OpenSnapshot implements log.Storage.
func (d *Disk) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	return d.snap, io.NopCloser(bytes.NewReader(d.body)), int64(len(d.body)), nil
}

// Compact implements log.Storage.
func (d *Disk) Compact(index uint64) error {
	if index > d.snap.GetMetadata().GetIndex() {
		return errors.New("sim: compacted beyond the snapshot")
	}
	if index >= d.first {
		d.ents = slices.Clone(d.ents[index+1-d.first:])
		d.first = index + 1
	}
	return nil
}

// Close implements log.Storage.
func (d *Disk) Close() error { return nil }
