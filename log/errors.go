package log

import (
	"errors"
	"fmt"
)

// The errors of the driver; those of appends are definite, as all but [ErrUnknown] are.
var (
	// ErrTooLarge is returned by Append when the record is larger than the configured maximum.
	ErrTooLarge = errors.New("baton: record too large")
	// ErrNoRoom is returned by Append when this member's disk is nearly full, or when checkpoints have failed
	// for so long that no more log can be kept. It goes on by itself when there is room again.
	// It is matched by a *[NoRoomError], which says why, and which matches [ErrBusy], too.
	ErrNoRoom = errors.New("baton: no room for more records")
	// ErrClosed is returned by every method after Close, and wraps into [ErrUnknown] for appends that
	// were under way.
	ErrClosed = errors.New("baton: closed")
	// ErrBadCursor is returned, wrapped, by MoveCursor when a cursor is to be where no record is yet.
	ErrBadCursor = errors.New("baton: not where a cursor can be")
	// ErrCompacted is matched by the *[CompactedError] that Subscribe yields.
	ErrCompacted = errors.New("baton: records compacted away")
)

// A CompactedError is yielded by Subscribe when the record asked for is no longer held.
type CompactedError struct {
	Index uint64 // the record asked for
	First uint64 // the oldest record still held
}

func (e *CompactedError) Error() string {
	return fmt.Sprintf("baton: record %d is compacted away, the first held is %d", e.Index, e.First)
}

// Is reports a match with [ErrCompacted].
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }

// A NoRoomError says for want of what this member takes no appends for the time being.
type NoRoomError struct {
	Reason string // RoomDisk or RoomCheckpoint
	Err    error  // in words
}

// What there is no room for, or because of what.
const (
	RoomDisk       = "disk"       // there is little space on the disk
	RoomCheckpoint = "checkpoint" // much log is kept because no checkpoint can be written
)

func (e *NoRoomError) Error() string { return fmt.Sprintf("%v: %v", ErrNoRoom, e.Err) }

// Is reports a match with [ErrNoRoom] and [ErrBusy].
func (e *NoRoomError) Is(target error) bool { return target == ErrNoRoom || target == ErrBusy }

// Unwrap returns Err.
func (e *NoRoomError) Unwrap() error { return e.Err }
