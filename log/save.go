package log

import (
	"fmt"
	"io"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// This file makes the checkpoints of a running log. They are optional work: what fails of it is tried again,
// and ends nothing.

// problemCheckpoint is the kind of [Problem] of a checkpoint that has failed.
const problemCheckpoint = "checkpoint"

// checkpoint captures the state machine as it is after an apply, and has the checkpoint written by a goroutine
// of its own.
func (l *Log) checkpoint(a Place) {
	var body io.WriterTo
	var err error
	if sm := l.cfg.StateMachine; sm != nil {
		if body, err = l.capture(sm); body == nil {
			body = emptyState{}
		}
		if err != nil {
			err = fmt.Errorf("state machine: snapshot: %w", err)
		}
		if _, ok := sm.(Verifier); ok {
			body = verified{l, body}
		}
	}
	l.saving.Go(func() { l.save(a, body, err) })
}

// save writes a checkpoint. One that fails is tried again after a while, with a new capture.
func (l *Log) save(a Place, body io.WriterTo, err error) {
	told := l.check.failing()
	if err == nil {
		began := time.Now()
		err = l.check.Save(a, body)
		l.counts.saved(began, err)
	}
	if err == nil {
		l.judgeCursors()
		if l.judgeRoom() || told {
			l.Post(Problem{Kind: problemCheckpoint})
		}
		return
	}
	err = fmt.Errorf("checkpoint at record %d: %w", a.pos.Index, err)
	pause := l.check.fail(err)
	l.judgeRoom()
	l.Post(Problem{Kind: problemCheckpoint, Err: err})
	if l.wait(pause) {
		l.check.again()
		l.applies.put(nil) // between two applies
	}
}

// judgeRoom refuses appends when too much log is kept for want of a checkpoint, or no more. It reports whether that has
// changed.
func (l *Log) judgeRoom() bool {
	l.roomMu.Lock()
	defer l.roomMu.Unlock()
	err := l.check.full()
	if (err != nil) == l.full {
		return false
	}
	l.full = err != nil
	l.refuse(RoomCheckpoint, err)
	return true
}

// NoRoom is what the [Observer] sees when this member's disk is nearly full and appends get [ErrNoRoom] for it, or with a nil
// Err when they do so no longer.
type NoRoom struct{ Err error }

// Mail implements [Mail].
func (NoRoom) Mail() {}

// Room tells the log how much room there is on this member's disk. With a reason to refuse, appends here get
// [ErrNoRoom]; what was accepted goes on. When it is out of room, no records are taken from a leader either. Nil
// and false: all is well.
func (l *Log) Room(refuse error, out bool) {
	if refuse != nil {
		refuse = &NoRoomError{RoomDisk, refuse}
	}
	l.check.short(refuse != nil)
	l.Post(core.DiskOut{Out: out})
	l.Post(NoRoom{refuse})
	l.refuse(RoomDisk, refuse)
}

// refuse refuses appends because of something, or with a nil error no longer because of it. Those that wait to be
// proposed are refused, too.
func (l *Log) refuse(kind string, err error) {
	for _, b := range l.gather.refuse(kind, err) {
		b.Settle(err)
	}
}
