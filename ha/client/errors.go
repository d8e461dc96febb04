package client

import (
	"errors"
	"fmt"

	"github.com/baton-ha/baton/internal/session"
)

var (
	// ErrClosed is returned by all methods after Close.
	ErrClosed = errors.New("baton: the client is closed")
	// ErrUnreachable is wrapped by what Dial and Active return when ctx ends before a member has answered. The text says of
	// each address what was in the way.
	ErrUnreachable = errors.New("baton: no member was reached")
	// ErrNoActive is wrapped by what Active returns when ctx ends and no member knows of an Active.
	ErrNoActive = errors.New("baton: no active is known")
	// ErrCompacted is matched by the *[CompactedError] that Subscribe yields.
	ErrCompacted = errors.New("baton: the record is no longer held")
)

// The errors of members that would not talk to us at all, for errors.Is.
var (
	// ErrRefused is every refusal; those below are too.
	ErrRefused = session.ErrRefused
	// ErrWrongCluster: Config.Cluster is not the name of the cluster that is there.
	ErrWrongCluster = session.ErrWrongCluster
	// ErrUnauthorized: one side does not accept the other's certificate.
	ErrUnauthorized = session.ErrUnauthorized
	// ErrVersion: one side is too old for the other.
	ErrVersion = session.ErrVersion
)

// CompactedError says that a record that was asked for is not held by any member that could be asked: it was cut off behind a
// checkpoint.
type CompactedError struct {
	Index uint64 // that was wanted
	First uint64 // the first that is held somewhere
}

func (e *CompactedError) Error() string {
	return fmt.Sprintf("baton: record %d is no longer held; the first is %d", e.Index, e.First)
}

// Is matches ErrCompacted.
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }

// forGood says whether a member that failed us so will do so again: it has refused us for what we are.
func forGood(err error) bool {
	var r *session.RefusedError
	if !errors.As(err, &r) {
		return errors.Is(err, ErrUnauthorized)
	}
	switch r.Code {
	case session.CodeNotNow, session.CodeBusy, session.CodeSelf, session.CodeDuplicate, session.CodeWrongMember:
		return false
	}
	return true
}
