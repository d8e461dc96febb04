package log

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/mutant"
)

// An Epoch is one row of the cluster's history: who became Active, and where in the log.
type Epoch struct {
	Epoch  uint64 `codec:"e"`
	Holder string `codec:"h"` // the member that opened it
	Term   uint64 `codec:"t"` // the raft term in which it was opened
	Raft   uint64 `codec:"r"` // raft index of its start
	First  uint64 `codec:"f"` // the index that the first record after its start has or will have
}

// Of the history so many rows are kept at least, and besides all that are needed to read the log that is held:
// they say which records in it count. maxEpochs bounds them; what is older than those cannot be read.
const (
	minEpochs = 4096
	maxEpochs = 1 << 17
)

// A position is the replicated state of the log itself after some raft entry: the same on every
// member that has come as far. It is a value: moving on returns another.
type position struct {
	Raft      uint64   `codec:"raft"`  // the raft entry it stands after
	Index     uint64   `codec:"index"` // the last record
	ClusterID [16]byte `codec:"cluster_id"`
	Epochs    []Epoch  `codec:"epochs"` // the latest, ascending; append-only, so copies may share it, and only one of them moves on
}

// epoch is the epoch in force, the zero Epoch before the first.
func (p *position) epoch() Epoch {
	if len(p.Epochs) == 0 {
		return Epoch{}
	}
	return p.Epochs[len(p.Epochs)-1]
}

// next moves over one committed raft entry. It is here, and only here, that records are fenced
// (G2): a batch counts if its epoch is the one in force, on every member alike. If the entry is a batch
// that counts, its header is returned, and else a header without records.
func (p *position) next(e *raftpb.Entry) (header, error) {
	if e.GetIndex() != p.Raft+1 {
		return header{}, fmt.Errorf("%w: raft entry %d follows %d", ErrFormat, e.GetIndex(), p.Raft)
	}
	p.Raft = e.GetIndex()
	data := e.GetData()
	if e.GetType() != raftpb.EntryNormal {
		return header{}, fmt.Errorf("%w: raft entry %d has type %v", ErrFormat, p.Raft, e.GetType())
	}
	if len(data) == 0 {
		return header{}, nil
	}
	switch data[0] {
	case kindBatch, kindOldBatch:
		h, err := parseHeader(data)
		if err != nil {
			return header{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
		}
		if h.epoch != p.epoch().Epoch && !mutant.On(mutant.FenceOnlyAtPropose) {
			return header{}, nil // fenced
		}
		if h.first != p.Index+1 && !mutant.On(mutant.FenceOnlyAtPropose) && !mutant.On(mutant.IndexHoles) {
			return header{}, fmt.Errorf("%w: raft entry %d begins with record %d after record %d", ErrFormat, p.Raft, h.first, p.Index)
		}
		if err := checkRecords(h, data); err != nil {
			return header{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
		}
		p.Index = h.first + uint64(h.count) - 1
		return h, nil
	case kindEpochStart:
		var s epochStart
		if err := decodeMsgpack(data[1:], &s); err != nil {
			return header{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
		}
		next := Epoch{Epoch: p.epoch().Epoch + 1, Holder: s.Holder, Term: e.GetTerm(), Raft: p.Raft, First: p.Index + 1}
		if mutant.On(mutant.EpochIsTerm) {
			next.Epoch = e.GetTerm()
		}
		p.Epochs = append(p.Epochs, next)
		p.Epochs = p.Epochs[max(0, len(p.Epochs)-maxEpochs):]
		if p.ClusterID == ([16]byte{}) {
			copy(p.ClusterID[:], s.ClusterID)
		}
	default:
		return header{}, fmt.Errorf("%w: raft entry %d is of kind %d: written by a newer version?", ErrFormat, p.Raft, data[0])
	}
	return header{}, nil
}

// since returns the position with the history that is needed by a log that begins behind a raft entry.
func (p position) since(base uint64) position {
	inForce := sort.Search(len(p.Epochs), func(i int) bool { return p.Epochs[i].Raft > base }) - 1
	p.Epochs = p.Epochs[max(0, min(inForce, len(p.Epochs)-minEpochs)):]
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

// A checkpoint is the header of a snapshot: everything a restart needs but the state machine's own
// bytes, which follow it.
type checkpoint struct {
	Version  int       `codec:"v"`
	Position position  `codec:"p"`
	Base     base      `codec:"b"` // where the log this member keeps begins
	Terms    []termRun `codec:"t"` // the terms of the entries between Base and Position
	Members  []Member  `codec:"m"` // the voters, by id
	State    stateKind `codec:"s"` // whether a state machine's bytes follow
	Machine  string    `codec:"w"` // the Go type of the state machine that wrote them, for people
}

// A stateKind says what follows a checkpoint header. It is not guessed from a size: a state may well
// be written as no bytes at all.
type stateKind uint8

const (
	stateUnsaid stateKind = iota // the header is from version 1, or was: with bytes, a state machine's
	stateNone                    // the log is kept without a state machine
	stateOf                      // a state machine's bytes follow, perhaps none
)

// base is the raft entry before the first one kept.
type base struct {
	Raft  uint64 `codec:"r"`
	Term  uint64 `codec:"t"`
	Index uint64 `codec:"i"` // the last record at or before it
}

// termRun says that from raft index From on, entries have Term, up to the next run.
type termRun struct {
	From uint64 `codec:"f"`
	Term uint64 `codec:"t"`
}

// Versions of the header. The first did not say whether a state follows.
const (
	checkpointVersion    = 2
	minCheckpointVersion = 1
)

// A Member is one voter as raft knows it.
type Member struct {
	ID   uint64 `codec:"i"`
	Name string `codec:"n"`
}

// Boot returns the checkpoint with which every member of a new cluster begins: its voters at raft
// index 1, term 1, and an empty log. The same members give the same bytes everywhere.
func Boot(members []Member) *raftpb.Snapshot {
	members = slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	voters := make([]uint64, len(members))
	for i, m := range members {
		voters[i] = m.ID
	}
	return newSnapshot(1, &raftpb.ConfState{Voters: voters}, checkpoint{
		Version: checkpointVersion, Position: position{Raft: 1}, Base: base{Raft: 1, Term: 1}, Members: members,
		State: stateNone,
	})
}

// Members returns the voters that a checkpoint names.
func Members(s *raftpb.Snapshot) ([]Member, error) {
	c, err := parseCheckpoint(s)
	return c.Members, err
}

// forOthers returns a member's checkpoint as another member shall have it: its log begins behind the
// checkpoint, since it has nothing of what the sender keeps before.
func forOthers(s *raftpb.Snapshot) (*raftpb.Snapshot, error) {
	c, err := parseCheckpoint(s)
	if err != nil {
		return nil, err
	}
	if mutant.On(mutant.ForeignBase) {
		return s, nil
	}
	meta := s.GetMetadata()
	c.Base = base{Raft: c.Position.Raft, Term: meta.GetTerm(), Index: c.Position.Index}
	c.Position = c.Position.since(c.Base.Raft)
	c.Terms, c.Version = nil, checkpointVersion
	return newSnapshot(meta.GetTerm(), meta.GetConfState(), c), nil
}

func newSnapshot(term uint64, cs *raftpb.ConfState, c checkpoint) *raftpb.Snapshot {
	return &raftpb.Snapshot{
		Data:     encodeMsgpack(nil, c),
		Metadata: &raftpb.SnapshotMetadata{Index: new(c.Position.Raft), Term: &term, ConfState: cs},
	}
}

func parseCheckpoint(s *raftpb.Snapshot) (checkpoint, error) {
	var c checkpoint
	if err := decodeMsgpack(s.GetData(), &c); err != nil {
		return c, fmt.Errorf("checkpoint at raft index %d: %w", s.GetMetadata().GetIndex(), err)
	}
	if c.Version < minCheckpointVersion || c.Version > checkpointVersion || c.State > stateOf || c.Position.Raft != s.GetMetadata().GetIndex() || c.Base.Raft > c.Position.Raft {
		return c, fmt.Errorf("%w: checkpoint at raft index %d has version %d, state %d, position %d, base %d",
			ErrFormat, s.GetMetadata().GetIndex(), c.Version, c.State, c.Position.Raft, c.Base.Raft)
	}
	return c, nil
}
