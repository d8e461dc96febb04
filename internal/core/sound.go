package core

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/sum"
)

// The checksum of a batch is made by its proposer. It is verified when another member has received the batch, by its
// transport, after Apply has had it, before it is sent to a member that lags, and when a subscriber reads it. Before
// Apply nobody could write to it. The checksums of what holds the batch on the disk and on the wire are derived from it; what
// it adds to them is memory, which the log shares with the state machine.

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

// Verify reports a raft entry whose batch is no longer what its proposer made of it: a *[ChecksumError], which
// says when that was found. Other entries, and old batches, have no checksum.
func Verify(e *raftpb.Entry, when string) *ChecksumError {
	if sum.Sound(e.GetData()) {
		return nil
	}
	err := &ChecksumError{Raft: e.GetIndex(), When: when}
	if h, herr := ParseHeader(e.GetData()); herr == nil {
		err.First, err.Last = h.First, h.First+uint64(h.Count)-1
	}
	return err
}
