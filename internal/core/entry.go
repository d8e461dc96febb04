package core

import "errors"

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

// The errors of appends. Every error but [ErrUnknown] is definite: the record is not in the log and
// never will be (G3).
var (
	// ErrFenced is returned by Append when its epoch is over: a later epoch has started, or this
	// member's role of that epoch has ended.
	ErrFenced = errors.New("baton: fenced: the token's epoch is over")
	// ErrNotActive is returned by Append when this member is not the Active.
	ErrNotActive = errors.New("baton: not active")
	// ErrBusy is returned by Append at once when as many bytes as configured are already waiting.
	ErrBusy = errors.New("baton: too many appends waiting")
	// ErrUnknown is returned by Append when its context ended, or the member stopped, before the fate
	// of the record was known: it may be in the log, or come into it, or not.
	ErrUnknown = errors.New("baton: outcome unknown")
	// ErrFormat is returned, wrapped, when an entry or checkpoint cannot be read: it is damaged or
	// was written by a newer version. The member stops.
	ErrFormat = errors.New("baton: unreadable entry")
)
