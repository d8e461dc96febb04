package log

import (
	"io"
	"iter"

	"go.etcd.io/raft/v3/raftpb"
)

// Storage is one member's stable storage. The storage package implements it on etcd's WAL; the
// simulator in memory, with a disk that loses at a crash what was not synced. What is said here is a
// contract: one suite of tests, in package ha, holds both to it.
//
// Save and InstallSnapshot are called by one goroutine; the others may be called at any time by any,
// several at a time. None waits for a body that another call is writing or reading, and what a call
// reads does not vanish under it.
type Storage interface {
	// Recovered returns what the previous run left: the last HardState, the newest checkpoint that is
	// intact (without its body), the last entry (that of the checkpoint if there is none behind it), and
	// the terms of the entries behind the checkpoint, as runs: the first index of each, and its term.
	// Entries reads them when they are needed. A new member that joins a cluster has no checkpoint: snap is nil. Valid
	// until the first Save.
	Recovered() (hard *raftpb.HardState, snap *raftpb.Snapshot, last uint64, terms iter.Seq2[uint64, uint64])
	// Save makes a hard state (nil: unchanged) and entries durable before it returns nil. Entries may
	// overwrite earlier ones that are not committed, and what follows those is gone. It refuses what
	// raft never does: a gap, an entry that is committed or before the snapshot, a term, a commit or a
	// vote of the same term that goes back, a commit beyond the last entry. After an error the member stops.
	Save(*raftpb.HardState, []*raftpb.Entry) error
	// Written counts the bytes that Save has written so far. It grows while a large Save is under way, by which a
	// slow disk can be told from one that does not answer. It does not block.
	Written() uint64
	// Entries reads entries [lo, hi) back: at least one, otherwise at most maxBytes, and none beyond the
	// last. When the error is that lo is not held any more, First tells so afterwards: it is above lo.
	Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	// First is the oldest entry that Entries can read. It never goes back.
	First() uint64
	// SaveSnapshot makes a checkpoint durable; a nil body means that there is no state machine. The entry
	// that it stands after is in the log, or was. If a newer snapshot is in force by the time it is
	// written, it is dropped, which is no error. After an error nothing has changed.
	SaveSnapshot(snap *raftpb.Snapshot, body io.WriterTo) error
	// StageSnapshot keeps one that comes from a leader, verified and durable but not yet in force; a nil
	// body is an empty one. It stays until one as new is in force. After an error nothing has changed.
	StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error
	// InstallSnapshot brings a staged one into force in place of everything before it and, unless the log
	// holds the very entry that it ends with, of everything after it. It refuses one that is not staged
	// and one that is older than the one in force. After an error the member stops.
	InstallSnapshot(*raftpb.Snapshot, *raftpb.HardState) error
	// AdoptSnapshot brings a staged one into force as this member's own checkpoint, under a header that this member has made: one of
	// the same index and term, and the body stays what it is. The entry that it stands after is in the log and committed; the log stays. It
	// takes the place of all before it. If a newer one is in force, nothing happens, which is no error. It refuses one that is not
	// staged. After an error it is not staged any more, and nothing else has changed. Any goroutine may call it.
	AdoptSnapshot(*raftpb.Snapshot) error
	// OpenSnapshot opens the newest one in force. It stays readable when others take its place.
	OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error)
	// OpenFallback opens the one before it, which with the log between the two stands in for it. The newest one
	// is not trusted from then on: when there is a newer one, that one has the same fallback.
	OpenFallback() (*raftpb.Snapshot, io.ReadCloser, int64, error)
	// Compact gives up entries up to and including a raft index, but none behind the oldest checkpoint
	// that is kept: if the newest one is found damaged at the next start, the one before it and the log
	// after that must do.
	Compact(index uint64) error
	// Close releases everything.
	Close() error
}

// Transport sends messages to the other members. The transport package implements it on TCP; the
// simulator in memory, with a network that delays, drops, reorders, duplicates and cuts.
type Transport interface {
	// Send hands messages over and never blocks: what cannot be queued is dropped. The slice stays the caller's; the messages and
	// what they point to must not be changed afterwards.
	Send([]*raftpb.Message)
}
