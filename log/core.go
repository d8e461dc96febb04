package log

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// What of the core package those touch who use a [Log].
type (
	CoreConfig   = core.Config
	Member       = core.Member
	Roster       = core.Roster
	Former       = core.Former
	Kind         = core.Kind
	MemberChange = core.MemberChange
	Epoch        = core.Epoch
	Entry        = core.Entry

	// What an [Observer] is stepped with, and what it answers with.
	Observer        = core.Observer
	Change          = core.Change
	View            = core.View
	PeerView        = core.PeerView
	Mail            = core.Mail
	Event           = core.Event
	Leadership      = core.Leadership
	Lease           = core.Lease
	Ending          = core.Ending
	Succession      = core.Succession
	EpochStarted    = core.EpochStarted
	Settled         = core.Settled
	StartRefused    = core.StartRefused
	Doubted         = core.Doubted
	TransferAsked   = core.TransferAsked
	PeerGone        = core.PeerGone
	PeerLost        = core.PeerLost
	TransferRefused = core.TransferRefused
	Problem         = core.Problem
	RosterChanged   = core.RosterChanged
	Born            = core.Born
	StartEpoch      = core.StartEpoch
	Transfer        = core.Transfer
	KeepLead        = core.KeepLead
	AskTransfer     = core.AskTransfer
	Reluctant       = core.Reluctant
	Lapsed          = core.Lapsed
	Read            = core.Read

	Cursor     = core.Cursor
	CursorMove = core.CursorMove

	SessionID = core.SessionID
	RequestID = core.RequestID

	ChecksumError = core.ChecksumError
)

// The kinds of members.
const (
	KindVoter    = core.KindVoter
	KindObserver = core.KindObserver
	KindArbiter  = core.KindArbiter
)

// How the time of a leader has ended.
const (
	EndUnknown  = core.EndUnknown
	EndSilent   = core.EndSilent
	EndGone     = core.EndGone
	EndTransfer = core.EndTransfer
)

// FullBatch is [core.FullBatch].
const FullBatch = core.FullBatch

// Boot returns the checkpoint with which every member of a new cluster begins: its voters at raft index 1, term 1, and an empty log. The same
// members give the same bytes everywhere.
func Boot(members []Member) *raftpb.Snapshot { return core.Boot(members) }

// RosterOf returns the members that a checkpoint names, or an error, where it is none.
func RosterOf(s *raftpb.Snapshot) (Roster, error) { return core.RosterOf(s) }

// Guard works out for how long a member that starts must keep what earlier processes of it may have promised. kept is what its directory says
// of that, 0 if nothing; the member's own promises last for length. What is to be kept from now on must be durable before the member
// takes part; once the guard is over, it is enough to keep length.
func Guard(kept, length time.Duration) (guard, keep time.Duration) { return core.Guard(kept, length) }

// LeaseLength is how long a lease lasts from the stamp it rests on where all members have the same values.
func LeaseLength(heartbeat, electionTimeout time.Duration, drift float64) time.Duration {
	return core.LeaseLength(heartbeat, electionTimeout, drift)
}

// The errors of the core: see there, and those of package ha of the same names.
var (
	ErrSessionExpired = core.ErrSessionExpired
	ErrTooManyCursors = core.ErrTooManyCursors

	ErrFenced       = core.ErrFenced
	ErrNotActive    = core.ErrNotActive
	ErrBusy         = core.ErrBusy
	ErrUnknown      = core.ErrUnknown
	ErrFormat       = core.ErrFormat
	ErrStateMachine = core.ErrStateMachine

	ErrNotLeader     = core.ErrNotLeader
	ErrNotYetSettled = core.ErrNotYetSettled
	ErrChanging      = core.ErrChanging
	ErrOutdated      = core.ErrOutdated
	ErrBadChange     = core.ErrBadChange
)
