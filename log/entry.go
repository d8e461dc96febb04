package log

import (
	"errors"
	"fmt"
	"io"
)

// An Entry is one committed record.
type Entry struct {
	// Index is the record's own number: 1, 2, 3 … without holes (HDFS's txid). It is not raft's
	// index: elections and epoch starts take none.
	Index uint64
	// Epoch is the epoch in which the record was appended.
	Epoch uint64
	// Data is the record's content. A subscriber's is its own. A state machine's is shared with the log
	// and with what other members get: it may be read and kept, and must not be written to. Where that
	// happens it is noticed, within Apply at once and else when the record is needed again; the log goes on
	// from its disk, which is slow, and says so (a *[ChecksumError]).
	Data []byte
}

// A StateMachine is built from the records of the log, the same on every member. Its methods are
// called one at a time, not always by the same goroutine, never on the log's own loop; a slow one delays appends'
// answers on this member and nothing else.
type StateMachine interface {
	// Apply is given committed records in order, each exactly once since the last Restore or since
	// the empty machine. It must be deterministic. An error or a panic stops the member: a machine
	// that differs from its peers must not go on.
	Apply(entries []Entry) error
	// Snapshot captures the state as it is now and returns at once; the capture is written by another
	// goroutine while Apply goes on, so it must not change with it. A state may be written as no bytes; nil is
	// such a one. When Snapshot or WriteTo fails or panics, nothing is lost: it is tried again
	// after a pause, and the log is kept meanwhile.
	Snapshot() (io.WriterTo, error)
	// Restore replaces the state by one that WriteTo wrote, on this or another member. When it fails at the
	// start of a member, it is called again with an older one.
	Restore(r io.Reader) error
}

// The errors of appends. Every error but [ErrUnknown] is definite: the record is not in the log and
// never will be (G3).
var (
	// ErrFenced is returned by Append when its epoch is over: a later epoch has started, or this
	// member's role of that epoch has ended.
	ErrFenced = errors.New("baton: fenced: the token's epoch is over")
	// ErrNotActive is returned by Append when this member is not the Active.
	ErrNotActive = errors.New("baton: not active")
	// ErrTooLarge is returned by Append when the record is larger than the configured maximum.
	ErrTooLarge = errors.New("baton: record too large")
	// ErrBusy is returned by Append at once when as many bytes as configured are already waiting.
	ErrBusy = errors.New("baton: too many appends waiting")
	// ErrNoRoom is returned by Append when this member's disk is nearly full, or when checkpoints have failed
	// for so long that no more log can be kept. It goes on by itself when there is room again.
	ErrNoRoom = errors.New("baton: no room for more records")
	// ErrUnknown is returned by Append when its context ended, or the member stopped, before the fate
	// of the record was known: it may be in the log, or come into it, or not.
	ErrUnknown = errors.New("baton: outcome unknown")
	// ErrClosed is returned by every method after Close, and wraps into [ErrUnknown] for appends that
	// were under way.
	ErrClosed = errors.New("baton: closed")
	// ErrCompacted is matched by the *[CompactedError] that Subscribe yields.
	ErrCompacted = errors.New("baton: records compacted away")
	// ErrFormat is returned, wrapped, when an entry or checkpoint cannot be read: it is damaged or
	// was written by a newer version. The member stops.
	ErrFormat = errors.New("baton: unreadable entry")
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
