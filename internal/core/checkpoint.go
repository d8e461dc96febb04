package core

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// A Checkpoint is the header of a snapshot: everything a restart needs but the state machine's own
// bytes, which follow it.
type Checkpoint struct {
	Version  int       `codec:"v"`
	Position Position  `codec:"p"`
	Base     Base      `codec:"b"`           // where the log this member keeps begins
	Terms    []TermRun `codec:"t"`           // the terms of the entries between Base and Position
	Members  []Member  `codec:"m,omitempty"` // the voters, by id, in versions before the third; now they are in Position
	State    StateKind `codec:"s"`           // whether a state machine's bytes follow
	Sessions []byte    `codec:"q,omitempty"` // the table of them ([Sessions]), part of the state
	Machine  string    `codec:"w"`           // the Go type of the state machine that wrote them, for people
}

// A StateKind says what follows a checkpoint header. It is not guessed from a size: a state may well
// be written as no bytes at all.
type StateKind uint8

const (
	StateUnsaid StateKind = iota // the header is from version 1, or was: with bytes, a state machine's
	StateNone                    // the log is kept without a state machine
	StateOf                      // a state machine's bytes follow, perhaps none
)

// Base is the raft entry before the first one kept.
type Base struct {
	Raft  uint64 `codec:"r"`
	Term  uint64 `codec:"t"`
	Index uint64 `codec:"i"` // the last record at or before it
}

// TermRun says that from raft index From on, entries have Term, up to the next run.
type TermRun struct {
	From uint64 `codec:"f"`
	Term uint64 `codec:"t"`
}

// ErrStateMachine is returned, wrapped, by Open when a directory was kept with a state machine and is
// opened without, or the other way. A leader's snapshot that does not fit in this way is refused with it.
var ErrStateMachine = errors.New("baton: all members must have a state machine, or none of them")

// Versions of the header. The first did not say whether a state follows, the second knew voters only, which never changed,
// the third no sessions.
const (
	CheckpointVersion    = 4
	minCheckpointVersion = 1
	sessionless          = 3
)

// Boot returns the checkpoint with which every member of a new cluster begins: its voters at raft
// index 1, term 1, and an empty log. The same members give the same bytes everywhere.
func Boot(members []Member) *raftpb.Snapshot {
	return NewSnapshot(1, Checkpoint{
		Position: Position{Raft: 1, Roster: firstRoster(members)}, Base: Base{Raft: 1, Term: 1},
		State: StateNone,
	})
}

// Nobody returns the checkpoint with which a member begins that is to join a cluster: it knows of no members, and follows whoever
// leads it. A leader's checkpoint takes its place.
func Nobody() *raftpb.Snapshot {
	return NewSnapshot(0, Checkpoint{State: StateNone})
}

// RosterOf returns the members that a checkpoint names.
func RosterOf(s *raftpb.Snapshot) (Roster, error) {
	c, err := ParseCheckpoint(s)
	return c.Position.Roster, err
}

// ForOthers returns a member's checkpoint as another member shall have it: its log begins behind the
// checkpoint, since it has nothing of what the sender keeps before.
func ForOthers(s *raftpb.Snapshot) (*raftpb.Snapshot, error) {
	c, err := ParseCheckpoint(s)
	if err != nil {
		return nil, err
	}
	meta := s.GetMetadata()
	c.Base = Base{Raft: c.Position.Raft, Term: meta.GetTerm(), Index: c.Position.Index}
	c.Position = c.Position.Since(c.Base.Raft)
	c.Terms, c.Version = nil, 0
	return NewSnapshot(meta.GetTerm(), c), nil
}

// NewSnapshot returns a checkpoint as raft's snapshot, whose configuration is that of the roster. Its version, unless it has one, is the
// oldest that can say what it says: members of a version before take it while a cluster is upgraded one by one.
func NewSnapshot(term uint64, c Checkpoint) *raftpb.Snapshot {
	switch {
	case c.Version != 0:
	case len(c.Sessions) > 0:
		c.Version = CheckpointVersion
	default:
		c.Version = sessionless
	}
	c.adopt()
	return &raftpb.Snapshot{
		Data:     encodeMsgpack(nil, c),
		Metadata: &raftpb.SnapshotMetadata{Index: new(c.Position.Raft), Term: &term, ConfState: c.Position.Roster.ConfState()},
	}
}

func ParseCheckpoint(s *raftpb.Snapshot) (Checkpoint, error) {
	var c Checkpoint
	if err := decodeMsgpack(s.GetData(), &c); err != nil {
		return c, fmt.Errorf("checkpoint at raft index %d: %w", s.GetMetadata().GetIndex(), err)
	}
	if c.Version < minCheckpointVersion || c.Version > CheckpointVersion || c.State > StateOf || c.Position.Raft != s.GetMetadata().GetIndex() || c.Base.Raft > c.Position.Raft {
		return c, fmt.Errorf("%w: checkpoint at raft index %d has version %d, state %d, position %d, base %d",
			ErrFormat, s.GetMetadata().GetIndex(), c.Version, c.State, c.Position.Raft, c.Base.Raft)
	}
	c.adopt()
	return c, nil
}

// adopt makes the roster of a checkpoint of before there was one.
func (c *Checkpoint) adopt() {
	if c.Position.Roster.Version == 0 && c.Position.Raft > 0 {
		c.Position.Roster, c.Members = firstRoster(c.Members), nil
	}
}

// Fits reports an error when what follows a header is not what a member with or without a state machine
// can go on from. A checkpoint without any record fits all: there is nothing to be restored.
func (c *Checkpoint) Fits(machine bool, size int64) error {
	switch {
	case c.Position.Index == 0 && c.State != StateOf:
		return nil
	case machine && c.State == StateNone:
		return fmt.Errorf("%w: the checkpoint at record %d was made without one and has no state to restore", ErrStateMachine, c.Position.Index)
	case !machine && (c.State == StateOf || c.State == StateUnsaid && size > 0):
		return fmt.Errorf("%w: the checkpoint at record %d holds the state of one (%s), which would be lost", ErrStateMachine, c.Position.Index, c.WrittenBy())
	}
	return nil
}

// WrittenBy names the state machine that wrote the state.
func (c *Checkpoint) WrittenBy() string {
	if c.Machine == "" {
		return "of unknown type"
	}
	return c.Machine
}
