package log

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// A CheckpointInfo is what the header of a checkpoint says, without its state.
type CheckpointInfo struct {
	Index   uint64   `json:"index"`             // the last record that is in it
	Epochs  []Epoch  `json:"epochs"`            // the latest up to there, oldest first
	Members []Member `json:"members"`           // of the cluster at Index, by id
	Machine string   `json:"machine,omitempty"` // Go type of the state machine, "" if there is none
}

// ReadCheckpoint reads the header of a checkpoint, as it is in the snapshot of a member's directory.
func ReadCheckpoint(snap *raftpb.Snapshot) (CheckpointInfo, error) {
	cp, err := core.ParseCheckpoint(snap)
	if err != nil {
		return CheckpointInfo{}, err
	}
	return CheckpointInfo{Index: cp.Position.Index, Epochs: cp.Position.Epochs, Members: cp.Position.Roster.Members, Machine: cp.Machine}, nil
}
