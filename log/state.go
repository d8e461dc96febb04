package log

import (
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// This file is about the state that follows a checkpoint's header: the state machine's bytes, or none
// because the log is kept without one. All members must be alike in this, for ever: a state that was not
// kept cannot be had again.

// problemSnapshot is the kind of [Problem] of a leader's snapshot that was refused for it.
const problemSnapshot = "snapshot"

// emptyState is the capture of a state machine that has nothing to write.
type emptyState struct{}

// WriteTo implements [io.WriterTo].
func (emptyState) WriteTo(io.Writer) (int64, error) { return 0, nil }

// machineName is what people see of which state machine wrote a state.
func machineName(sm StateMachine) string {
	if sm == nil {
		return ""
	}
	name := fmt.Sprintf("%T", sm)
	return name[:min(len(name), maxMachineName)]
}

// maxMachineName bounds the name in a header, since that of a generic type may be long.
const maxMachineName = 128

// restore puts the state machine into the state of a snapshot, which is the newest one in force.
func (l *Log) restore(want *raftpb.Snapshot) (err error) {
	defer core.Catch("state machine", &err)
	if want.GetMetadata().GetIndex() == 0 {
		return nil // of a new member that joins a cluster: there is no state yet
	}
	var have *raftpb.Snapshot
	var body io.ReadCloser
	var size int64
	l.patiently(func() error {
		have, body, size, err = l.cfg.Storage.OpenSnapshot()
		return err
	})
	if err != nil {
		return fmt.Errorf("open snapshot: %w", err)
	}
	defer body.Close()
	if h, w := have.GetMetadata().GetIndex(), want.GetMetadata().GetIndex(); h != w {
		return fmt.Errorf("%w: the newest snapshot is at raft index %d, wanted %d", ErrFormat, h, w)
	}
	_, err = l.restoreFrom(have, body, size)
	return err
}

// restoreFrom puts the state machine into the state that body holds, and returns its header.
func (l *Log) restoreFrom(snap *raftpb.Snapshot, body io.Reader, size int64) (cp core.Checkpoint, err error) {
	if cp, err = core.ParseCheckpoint(snap); err != nil {
		return cp, err
	}
	sm := l.cfg.StateMachine
	if err := l.takes(&cp, size); err != nil {
		return cp, err
	}
	// Where a header of version 1 is followed by nothing, it cannot be known whether there was a state
	// machine: it is taken for one whose state is empty, and Restore will say if it cannot be.
	if sm == nil || cp.State != core.StateOf && cp.Position.Index == 0 && size == 0 {
		return cp, nil
	}
	if err := l.do("StateMachine.Restore", func() error { return sm.Restore(body) }); err != nil {
		return cp, fmt.Errorf("state machine: %T: restore the state of %d bytes at record %d that was written by one of type %s: %w",
			sm, size, cp.Position.Index, cp.WrittenBy(), err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil { // the end carries the checksum
		return cp, fmt.Errorf("state machine: restore: %w", err)
	}
	l.check.sized(size)
	return cp, nil
}
