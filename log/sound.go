package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// The checksum of a batch is made by its proposer. It is verified before the batch is stored on another member
// (Log.Receive), before it is applied, after Apply has had it, before it is sent to a member that lags, and when
// a subscriber reads it. On the disk and on the wire storage and transport have checksums of their own; what this one
// adds is memory, which the log shares with the state machine.

// A ChecksumError says that records are not what was appended: a state machine has written to Entry.Data, or
// memory is damaged.
type ChecksumError struct {
	First, Last uint64 // the records of the batch; 0 if not even that can be read
	Raft        uint64 // raft index of the entry
	When        string // it was found
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("baton: records %d to %d (raft entry %d) are not what was appended: their checksum differs %s", e.First, e.Last, e.Raft, e.When)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of a batch.
func checksum(batch []byte) uint32 { return crc32.Checksum(batch[1+checksumSize:], castagnoli) }

// verify reports a raft entry whose batch is no longer what its proposer made of it: a *[ChecksumError], which
// says when that was found. Other entries, and old batches, have no checksum.
func verify(e *raftpb.Entry, when string) *ChecksumError {
	data := e.GetData()
	if len(data) < batchHeader || data[0] != kindBatch ||
		checksum(data) == binary.LittleEndian.Uint32(data[1:]) {
		return nil
	}
	err := &ChecksumError{Raft: e.GetIndex(), When: when}
	if h, herr := parseHeader(data); herr == nil {
		err.First, err.Last = h.first, h.first+uint64(h.count)-1
	}
	return err
}

// sound returns a committed entry as it was proposed: the one given, if nobody has written to it, or else the one
// on disk, which takes its place in the window. If that one is damaged, too, or not held any more, the error is a
// *[ChecksumError], and the member must stop.
func (w *window) sound(e *raftpb.Entry, when string) (*raftpb.Entry, error) {
	damage := verify(e, when)
	if damage == nil {
		return e, nil
	}
	ents, err := w.disk.Entries(e.GetIndex(), e.GetIndex()+1, math.MaxUint64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; from disk: %w", damage, err)
	case len(ents) != 1 || ents[0].GetTerm() != e.GetTerm() || verify(ents[0], when) != nil:
		return nil, fmt.Errorf("%w; on disk, too", damage)
	}
	w.mu.Lock()
	if i := e.GetIndex(); i >= w.first && i-w.first < uint64(len(w.ents)) {
		w.ents = slices.Clone(w.ents) // readers may hold the old array
		w.ents[i-w.first] = ents[0]
	}
	w.mu.Unlock()
	if w.damaged != nil {
		w.damaged(damage)
	}
	return ents[0], nil
}
