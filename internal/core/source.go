package core

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// A Source is the log that a member holds, as its core reads it. The driver keeps it, and extends it by what the
// core asks to be written, also while the core is stepped.
type Source interface {
	// Entries, unlike the other methods, may wait for a disk. A core does not call it.
	raft.Storage
	// Recent returns entries [lo, hi) as Entries does, if lo is in memory. If it is on disk only, Recent returns none, and
	// the index at which the entries end that are on disk only.
	Recent(lo, hi, maxBytes uint64) (ents []*raftpb.Entry, old uint64, err error)
}

// What raft knows the errors of a [Source] by.
var (
	ErrNotHeld = raft.ErrCompacted   // entries are not held any more
	ErrNotYet  = raft.ErrUnavailable // entries are not there yet
)

// Within returns so many of the first entries that they take maxBytes of memory at most, but one at least.
func Within(ents []*raftpb.Entry, maxBytes uint64) []*raftpb.Entry {
	size := uint64(0)
	for i, e := range ents {
		if size += uint64(EntrySize(e)); size > maxBytes && i > 0 {
			return ents[:i:i]
		}
	}
	return ents[:len(ents):len(ents)]
}

// EntrySize is about how many bytes of memory an entry takes: for one with a small record most are in what is around it.
func EntrySize(e *raftpb.Entry) int { return len(e.GetData()) + entryOverhead }

const entryOverhead = 160
