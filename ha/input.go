package ha

import (
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// This file is what goes into the role machine and what comes out of it.

// An input is something that happens to a role machine. It travels by the member's mailbox.
type input interface {
	log.Mail
	input()
}

type (
	// wake: its deadline has come, or somebody wants it to look.
	wake struct{}
	// reported: the log says how things stand now.
	reported struct{ change log.Change }
	// stopped: the log has ended, because of err or, if that is nil, in order.
	stopped struct {
		err     error
		unknown uint64 // records that have no fate then
	}
	// acknowledged: the first append of an epoch was. It decides nothing.
	acknowledged struct{ log.Acknowledged }
	// callbackDone: the callback of the present phase has returned.
	callbackDone struct {
		err   error
		ended bool // err says only that its ctx has ended
	}
	// fenceDone: OnFence has returned.
	fenceDone struct {
		err   error
		ended bool // its ctx had been ended because this member was not to become active any more
	}
	// machineFailed: a method of the state machine has failed, and the member goes on.
	machineFailed struct{ err error }
	// expired: the timer beside the loop has ended the ctx of an active phase.
	expired struct{ token fence.Token }
	// misuse: a method was called where it would wait for itself.
	misuse struct{ err error }
	// unborn: the cluster has not begun, because of err, or with a nil error it has.
	unborn struct{ err error }
	// diskFull: the disk is nearly full, because of err, or with a nil error no longer.
	diskFull struct{ err error }
	// diskProbed: a write that was to show how the disk does has ended.
	diskProbed struct {
		took time.Duration
		err  error
	}
	// checked: a check of this member's health has ended.
	checked struct{ err error }
	// heardOf: another member has said what is in its way.
	heardOf struct {
		id        uint64
		obstacles []obstacle
	}
	// keepAway: somebody wants this member to stay away from the role for a reason or, without one, no longer.
	keepAway struct {
		reason string
		wish   *wish // nil without a reason
	}
	// become: somebody wants this member to be Active, or not to be.
	become struct{ wish *wish }
)

func (wake) input()          {}
func (reported) input()      {}
func (stopped) input()       {}
func (acknowledged) input()  {}
func (callbackDone) input()  {}
func (fenceDone) input()     {}
func (machineFailed) input() {}
func (expired) input()       {}
func (misuse) input()        {}
func (unborn) input()        {}
func (diskFull) input()      {}
func (diskProbed) input()    {}
func (checked) input()       {}
func (heardOf) input()       {}
func (keepAway) input()      {}
func (become) input()        {}

func (wake) Mail()          {}
func (reported) Mail()      {}
func (stopped) Mail()       {}
func (callbackDone) Mail()  {}
func (fenceDone) Mail()     {}
func (machineFailed) Mail() {}
func (expired) Mail()       {}
func (misuse) Mail()        {}
func (unborn) Mail()        {}
func (diskFull) Mail()      {}
func (diskProbed) Mail()    {}
func (checked) Mail()       {}
func (heardOf) Mail()       {}
func (keepAway) Mail()      {}
func (become) Mail()        {}

// An action is something that a role machine wants done.
type action interface{ action() }

type (
	// run: call OnActive or OnStandby, with a new ctx.
	run struct{ phase phase }
	// end: end the ctx of the present phase.
	end struct{ cause error }
	// runFence: call OnFence, with a new ctx.
	runFence struct{ previous Previous }
	// endFence: end that ctx.
	endFence struct{ cause error }
	// answer: tell whoever had a wish how it ended, and because of whose obstacles if it was refused for them.
	answer struct {
		wish *wish
		err  error
		why  map[string][]obstacle
	}
	// obstructed: an obstacle stands from now on, or says something else.
	obstructed struct{ obstacle obstacle }
	// cleared: it stands no more.
	cleared struct{ kind ObstacleKind }
	// probeDisk: write to the disk, and say how long it takes.
	probeDisk struct{}
	// report: tell the operator that a callback has failed.
	report struct{ err error }
)

func (run) action()        {}
func (end) action()        {}
func (runFence) action()   {}
func (endFence) action()   {}
func (answer) action()     {}
func (obstructed) action() {}
func (cleared) action()    {}
func (probeDisk) action()  {}
func (report) action()     {}

// An output is what follows from an input: actions, to be carried out in order before anything of this step leaves
// the member, and events for the log.
type output struct {
	actions []action
	events  []log.Event
}

func (o *output) do(a action)       { o.actions = append(o.actions, a) }
func (o *output) tell(ev log.Event) { o.events = append(o.events, ev) }

// answer answers wishes, all alike.
func (o *output) answer(err error, wishes ...*wish) {
	for _, w := range wishes {
		o.do(answer{wish: w, err: err})
	}
}

// refuse answers wishes that obstacles stand in the way of.
func (o *output) refuse(err error, why map[string][]obstacle, wishes ...*wish) {
	for _, w := range wishes {
		o.do(answer{w, err, why})
	}
}
