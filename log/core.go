package log

import "github.com/baton-ha/baton/internal/core"

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
	Observer      = core.Observer
	Change        = core.Change
	View          = core.View
	PeerView      = core.PeerView
	Mail          = core.Mail
	Event         = core.Event
	Leadership    = core.Leadership
	Lease         = core.Lease
	Ending        = core.Ending
	Succession    = core.Succession
	EpochStarted  = core.EpochStarted
	Settled       = core.Settled
	StartRefused  = core.StartRefused
	TransferAsked = core.TransferAsked
	Problem       = core.Problem
	RosterChanged = core.RosterChanged
	Born          = core.Born
	StartEpoch    = core.StartEpoch
	Transfer      = core.Transfer
	AskTransfer   = core.AskTransfer
	Reluctant     = core.Reluctant
	Lapsed        = core.Lapsed
	Read          = core.Read

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

var (
	Boot        = core.Boot
	RosterOf    = core.RosterOf
	Guard       = core.Guard
	LeaseLength = core.LeaseLength

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
