package log

import (
	"io"

	"go.etcd.io/raft/v3/raftpb"
)

// Storage is one member's stable storage. The storage package implements it on etcd's WAL; the
// simulator in memory, with a disk that loses at a crash what was not synced.
//
// Save and InstallSnapshot are called by one goroutine; the others may be called at any time by any.
type Storage interface {
	// Recovered returns what the previous run left: the last HardState, the newest checkpoint
	// (without its body) and the entries after it. Valid until the first Save.
	Recovered() (*raftpb.HardState, *raftpb.Snapshot, []*raftpb.Entry)
	// Save makes a hard state (nil: unchanged) and entries durable before it returns nil. Entries may
	// overwrite earlier ones. After an error the member stops.
	Save(*raftpb.HardState, []*raftpb.Entry) error
	// Entries reads entries [lo, hi) back: at least one, otherwise at most maxBytes.
	Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	// First is the oldest entry that Entries can read.
	First() uint64
	// SaveSnapshot makes a checkpoint durable; a nil body means that there is no state machine.
	SaveSnapshot(snap *raftpb.Snapshot, body io.WriterTo) error
	// StageSnapshot keeps one that comes from a leader, verified and durable but not yet in force.
	StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error
	// InstallSnapshot brings a staged one into force in place of everything before it.
	InstallSnapshot(*raftpb.Snapshot, *raftpb.HardState) error
	// OpenSnapshot opens the newest one in force.
	OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error)
	// Compact gives up the entries up to and including a raft index.
	Compact(index uint64) error
	// Close releases everything.
	Close() error
}

// Transport sends messages to the other members. The transport package implements it on TCP; the
// simulator in memory, with a network that delays, drops, reorders, duplicates and cuts.
type Transport interface {
	// Send hands messages over and never blocks: what cannot be queued is dropped. The messages and
	// what they point to must not be changed afterwards.
	Send([]*raftpb.Message)
}
