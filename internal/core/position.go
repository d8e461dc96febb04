package core

import (
	"fmt"
	"sort"

	"go.etcd.io/raft/v3/raftpb"
)

// An Epoch is one row of the cluster's history: who became Active, and where in the log.
type Epoch struct {
	Epoch  uint64 `codec:"e" json:"epoch"`
	Holder string `codec:"h" json:"holder"`     // the member that opened it
	Term   uint64 `codec:"t" json:"term"`       // the raft term in which it was opened
	Raft   uint64 `codec:"r" json:"raft_index"` // raft index of its start
	First  uint64 `codec:"f" json:"first"`      // the index that the first record after its start has or will have
}

// Of the history so many rows are kept at least, and besides all that are needed to read the log that is held:
// they say which records in it count. maxEpochs bounds them; what is older than those cannot be read.
const (
	MinEpochs = 4096
	maxEpochs = 1 << 17
)

// A Position is the replicated state of the log itself after some raft entry: the same on every
// member that has come as far. It is a value: moving on returns another.
type Position struct {
	Raft      uint64   `codec:"raft"`  // the raft entry it stands after
	Index     uint64   `codec:"index"` // the last record
	ClusterID [16]byte `codec:"cluster_id"`
	Epochs    []Epoch  `codec:"epochs"`            // the latest, ascending; append-only, so copies may share it, and only one of them moves on
	Roster    Roster   `codec:"roster"`            // who belongs to the cluster
	Cursors   []Cursor `codec:"cursors,omitempty"` // of readers that have a name, by name; copies may share it
}

// Moved is what an entry has done to a [Position] beside moving it on.
type Moved struct {
	Header                            // of a batch that counts, or without records
	Reconfigured bool                 // the roster is another
	Refused      error                // why an entry that would change the roster does not
	raft         *raftpb.ConfChangeV2 // what raft has to be told; nil: nothing
}

// Epoch is the epoch in force, the zero Epoch before the first.
func (p *Position) Epoch() Epoch {
	if len(p.Epochs) == 0 {
		return Epoch{}
	}
	return p.Epochs[len(p.Epochs)-1]
}

// Next moves over one committed raft entry. It is here, and only here, that records are fenced
// (G2): a batch counts if its epoch is the one in force, on every member alike.
func (p *Position) Next(e *raftpb.Entry) (Moved, error) {
	if e.GetIndex() != p.Raft+1 {
		return Moved{}, fmt.Errorf("%w: raft entry %d follows %d", ErrFormat, e.GetIndex(), p.Raft)
	}
	p.Raft = e.GetIndex()
	data := e.GetData()
	switch e.GetType() {
	case raftpb.EntryNormal:
	case raftpb.EntryConfChangeV2:
		return p.reconfigure(e)
	default:
		return Moved{}, fmt.Errorf("%w: raft entry %d has type %v", ErrFormat, p.Raft, e.GetType())
	}
	if len(data) == 0 {
		return Moved{}, nil
	}
	switch data[0] {
	case kindBatch, kindOldBatch:
		h, err := ParseHeader(data)
		if err != nil {
			return Moved{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
		}
		if h.Epoch != p.Epoch().Epoch {
			return Moved{}, nil // fenced
		}
		if h.First != p.Index+1 {
			return Moved{}, fmt.Errorf("%w: raft entry %d begins with record %d after record %d", ErrFormat, p.Raft, h.First, p.Index)
		}
		if err := CheckRecords(h, data); err != nil {
			return Moved{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
		}
		p.Index = h.First + uint64(h.Count) - 1
		return Moved{Header: h}, nil
	case kindMembers:
		return p.amend(data)
	case kindCursors:
		return Moved{}, p.moveCursors(data)
	case kindEpochStart, kindEpochLeap:
		var s epochStart
		if err := decodeMsgpack(data[1:], &s); err != nil {
			return Moved{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
		}
		next := Epoch{Epoch: p.Epoch().Epoch + 1, Holder: s.Holder, Term: e.GetTerm(), Raft: p.Raft, First: p.Index + 1}
		if data[0] == kindEpochLeap {
			if s.Epoch < next.Epoch {
				return Moved{}, fmt.Errorf("%w: raft entry %d leaps to epoch %d from %d", ErrFormat, p.Raft, s.Epoch, next.Epoch-1)
			}
			next.Epoch = s.Epoch
		}
		p.Epochs = append(p.Epochs, next)
		p.Epochs = p.Epochs[max(0, len(p.Epochs)-maxEpochs):]
		if p.ClusterID == ([16]byte{}) {
			copy(p.ClusterID[:], s.ClusterID)
		}
	default:
		return Moved{}, fmt.Errorf("%w: raft entry %d is of kind %d: written by a newer version?", ErrFormat, p.Raft, data[0])
	}
	return Moved{}, nil
}

// Since returns the position with the history that is needed by a log that begins behind a raft entry.
func (p Position) Since(base uint64) Position {
	inForce := sort.Search(len(p.Epochs), func(i int) bool { return p.Epochs[i].Raft > base }) - 1
	p.Epochs = p.Epochs[max(0, min(inForce, len(p.Epochs)-MinEpochs)):]
	return p
}

// epochAt returns the epoch in force at a raft index, the zero Epoch if the history does not reach
// back to it.
func epochAt(history []Epoch, raftIndex uint64) Epoch {
	i := sort.Search(len(history), func(i int) bool { return history[i].Raft > raftIndex })
	if i == 0 {
		return Epoch{}
	}
	return history[i-1]
}

// after returns the first row of the history with a later epoch than e.
func after(history []Epoch, e uint64) (Epoch, bool) {
	i := sort.Search(len(history), func(i int) bool { return history[i].Epoch > e })
	if i == len(history) {
		return Epoch{}, false
	}
	return history[i], true
}

// FirstRecord returns the first record of a batch that counts.
func FirstRecord(e *raftpb.Entry) uint64 {
	h, err := ParseHeader(e.GetData())
	if err != nil {
		panic(err) // it was accepted
	}
	return h.First
}

// Counts reports whether a committed raft entry is a batch that was not fenced, by the same rule by
// which it was applied.
func Counts(e *raftpb.Entry, history []Epoch) (Header, bool, error) {
	data := e.GetData()
	if !isBatch(data) {
		return Header{}, false, nil
	}
	h, err := ParseHeader(data)
	if err != nil {
		return Header{}, false, fmt.Errorf("raft entry %d: %w", e.GetIndex(), err)
	}
	return h, h.Epoch == epochAt(history, e.GetIndex()).Epoch, nil
}
