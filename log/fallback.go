package log

import (
	"errors"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// This file is about snapshots that were written and cannot be restored. Each member would find that out at its
// next start, one after the other.

// problemRestore is the kind of [Problem] of a newest snapshot that could not be restored at the start.
const problemRestore = "restore"

// A Verifier is a [StateMachine] that can tell whether Restore would take a state, without changing its own.
// Verify reads each state while it is written, beside Apply. When it returns an error, the checkpoint has failed
// as if WriteTo had, and the one before it stays in force.
type Verifier interface {
	Verify(r io.Reader) error
}

// restoreAny restores the newest snapshot or, if the state machine does not take it, the one before it and the
// log between the two.
func (l *Log) restoreAny(newest *raftpb.Snapshot) error {
	err := l.restore(newest)
	if err == nil {
		return l.desk.restore(newest)
	}
	if l.cfg.StateMachine == nil || errors.Is(err, ErrStateMachine) {
		return err
	}
	older, oerr := l.restoreOlder(newest)
	if oerr != nil {
		return fmt.Errorf("%w; nor the one before it: %w", err, oerr)
	}
	l.Post(Problem{Kind: problemRestore, Err: fmt.Errorf("the newest snapshot cannot be restored; the state is from the one before it, "+
		"at record %d, and the log after that: %w", older, err)})
	return nil
}

// restoreOlder restores the snapshot before the newest one, and applies the records between the two. It returns the
// last record of the older one.
func (l *Log) restoreOlder(newest *raftpb.Snapshot) (record uint64, err error) {
	defer core.Catch("state machine", &err)
	end, err := core.ParseCheckpoint(newest)
	if err != nil {
		return 0, err
	}
	snap, body, size, err := l.cfg.Storage.OpenFallback()
	if err != nil {
		return 0, err
	}
	defer body.Close()
	cp, err := l.restoreFrom(snap, body, size)
	if err != nil {
		return 0, err
	}
	if cp.State != core.StateOf && cp.Position.Index == 0 {
		return 0, errors.New("it holds no state that could replace what Restore has left behind")
	}
	if err := l.desk.restore(snap); err != nil {
		return 0, err
	}
	at := cp.Position
	for at.Raft < end.Position.Raft {
		ents, err := l.cfg.Storage.Entries(at.Raft+1, end.Position.Raft+1, applyBytes)
		if err != nil {
			return 0, err
		}
		var accepted []*raftpb.Entry
		for _, e := range ents {
			h, err := at.Next(e)
			if err != nil {
				return 0, err
			}
			if h.Count > 0 {
				accepted = append(accepted, e)
			}
		}
		for rest := accepted; len(rest) > 0; {
			records, n := core.RecordsOf(nil, rest, applyBytes)
			var given [][]byte
			apply := func() error { return l.cfg.StateMachine.Apply(records) }
			if l.answerer != nil {
				apply = func() (err error) { given, err = answer(l.answerer, records); return err }
			}
			if err := l.do("StateMachine.Apply", apply); err != nil {
				return 0, fmt.Errorf("state machine: apply records from %d on: %w", records[0].Index, err)
			}
			l.desk.took(rest[:n], given)
			rest = rest[n:]
		}
	}
	if at.Index != end.Position.Index {
		return 0, fmt.Errorf("%w: the log leads to record %d, and the newest snapshot is at %d", ErrFormat, at.Index, end.Position.Index)
	}
	l.desk.begin(at.Epoch().Epoch)
	return cp.Position.Index, nil
}

// A verified capture has each byte that is written verified.
type verified struct {
	log  *Log
	body io.WriterTo
}

// WriteTo implements [io.WriterTo].
func (v verified) WriteTo(w io.Writer) (int64, error) {
	r, pipe := io.Pipe()
	result := make(chan error, 1)
	v.log.calls.Go("StateMachine.Verify", func() error { return v.log.cfg.StateMachine.(Verifier).Verify(r) }, func(err error) {
		_, _ = io.Copy(io.Discard, r) // it need not read to the end
		result <- err
	})
	n, err := v.body.WriteTo(io.MultiWriter(w, pipe))
	pipe.CloseWithError(err)
	verr := <-result
	if err == nil && verr != nil {
		err = fmt.Errorf("state machine: verify: %w", verr)
	}
	return n, err
}
