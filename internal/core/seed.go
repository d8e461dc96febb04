package core

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// This file is what makes a new cluster of what is left of another one, in a backup or in the directory of a survivor. The new
// one has the records, the state and the history of epochs of the old one, and nothing of its members.

// Found returns the checkpoint of another cluster as the first member of a new one begins with it.
func (c Checkpoint) Found(first Member, cluster [16]byte) Checkpoint {
	c.Version = 0 // as new as it must be
	c.Position.ClusterID = cluster
	c.Position.Roster = firstRoster([]Member{first})
	c.Position.Roster.Version = c.Position.Raft
	return c
}

// Plain returns an entry of another cluster's log without what it would do to the members of this one.
func Plain(e *raftpb.Entry) *raftpb.Entry {
	if e.GetType() == raftpb.EntryNormal && (len(e.GetData()) == 0 || e.GetData()[0] != kindMembers) {
		return e
	}
	return &raftpb.Entry{Term: e.Term, Index: e.Index}
}

// Leap returns the entry with which a new cluster's own history begins: an epoch with a number above all that the old
// cluster may have given, so that no token of the old one is as good as one of the new (G9).
func Leap(at, term uint64, holder string, epoch uint64) *raftpb.Entry {
	return &raftpb.Entry{Index: &at, Term: &term, Data: encodeMsgpack([]byte{kindEpochLeap}, epochStart{Holder: holder, Epoch: epoch})}
}

// Walk moves a position over entries that follow it, and is how a log is read that no core runs.
func (p *Position) Walk(ents []*raftpb.Entry) error {
	for _, e := range ents {
		if err := Verify(e, "in the log"); err != nil {
			return err
		}
		if _, err := p.Next(e); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	return nil
}
