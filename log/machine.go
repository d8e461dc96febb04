package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/baton-ha/baton/internal/calls"
)

// This file is where the state machine is called. What it does instead of returning becomes an error, and
// methods of the log that would wait for themselves in it are told so.

// ErrReentrant is returned by methods that are called from within the state machine, or a callback, and would
// wait there for themselves.
var ErrReentrant = errors.New("baton: called from within a callback or the state machine, where it would wait for itself")

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

// Inside returns the name of the state machine's method that this goroutine runs, "" if it runs none.
func (l *Log) Inside() string { return l.calls.Inside() }

// Busy returns what the log waits for at this moment before it can stop.
func (l *Log) Busy() []string {
	busy := l.calls.Running()
	if l.writing.Load() {
		busy = append(busy, "a write to the disk")
	}
	return busy
}

// reentrant reports whether an append is made where nothing can be applied before it returns. It costs one
// atomic read except while the state machine is running.
func (l *Log) reentrant() bool { return l.inside.Load() > 0 && l.calls.Inside() != "" }

// give gives records to the state machine, on the applier's goroutine. An Apply that ends that goroutine is noticed by
// it (runApplier): a goroutine for each would cost more than many an Apply.
func (l *Log) give(caller calls.Caller, records []Entry) (answers [][]byte, err error) {
	l.inside.Add(1)
	defer l.inside.Add(-1)
	if l.answerer == nil {
		return nil, caller.Call("StateMachine.Apply", func() error { return l.cfg.StateMachine.Apply(records) })
	}
	err = caller.Call("StateMachine.Answer", func() (err error) {
		answers, err = answer(l.answerer, records)
		return err
	})
	return answers, err
}

// capture takes the state machine's state as it is now; nil stands for an empty one.
func (l *Log) capture(sm StateMachine) (io.WriterTo, error) {
	var body io.WriterTo
	err := l.do("StateMachine.Snapshot", func() (err error) {
		body, err = sm.Snapshot()
		return err
	})
	if err != nil {
		l.Post(MachineFailed{fmt.Errorf("state machine: snapshot: %w", err)})
		return nil, err
	}
	if body == nil {
		return nil, nil
	}
	return capture{l, body}, nil
}

// do calls a method of the state machine that nothing can be applied before the end of, apart, so that it may
// end its goroutine.
func (l *Log) do(name string, f func() error) error {
	l.inside.Add(1)
	defer l.inside.Add(-1)
	return l.calls.Do(name, f)
}

// A capture is what a state machine has captured. It is written apart, too.
type capture struct {
	log  *Log
	body io.WriterTo
}

// MachineFailed is what the [Observer] sees when a method of the state machine has failed and the member goes on.
type MachineFailed struct{ Err error }

// Mail implements [Mail].
func (MachineFailed) Mail() {}

// WriteTo implements [io.WriterTo].
func (c capture) WriteTo(w io.Writer) (n int64, err error) {
	to := watchedWriter{w: w}
	err = c.log.calls.Do("WriteTo of a snapshot", func() (err error) {
		n, err = c.body.WriteTo(&to)
		return err
	})
	if err != nil && !to.failed {
		c.log.Post(MachineFailed{fmt.Errorf("state machine: write a snapshot: %w", err)})
	}
	return n, err
}

// A watchedWriter knows whether it is at fault for what failed.
type watchedWriter struct {
	w      io.Writer
	failed bool
}

func (w *watchedWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.failed = w.failed || err != nil
	return n, err
}
