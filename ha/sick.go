package ha

import (
	"errors"
	"fmt"
	"time"
)

// This file is what the role machine makes of the member's checks of its own health ([Config.Health]). Who is sick gives the role
// up, to a member that is well if there is one, and else to nobody: then the log lives on without an Active, and the first
// that is well again takes over. Who was sick a moment ago leaves the role to others where it can, for longer each time: so
// the role does not follow a check that comes and goes.

// errUnchecked is why a member is not well yet: the first check has not returned.
var errUnchecked = errors.New("baton: the first check of its health has not returned yet")

// fitness is what a member's checks say of it.
type fitness struct {
	sick    error // why it is; nil: it is well, or nobody checks
	strikes int   // checks that have failed in a row
	rest    damper
}

// checked takes the result of a check.
func (r *role) checked(now time.Duration, err error) {
	f := &r.fit
	switch {
	case err == nil:
		if f.sick != nil && f.sick != errUnchecked {
			f.rest.again(now, r.cfg.coolDown)
			r.retryAt = now
		}
		f.sick, f.strikes = nil, 0
	case f.sick == errUnchecked: // it begins badly
		f.sick = err
	case f.sick == nil:
		if f.strikes++; f.strikes >= r.cfg.strikes {
			f.sick = err
		}
	}
}

// pursueHealth gives the role up when this member is sick.
func (r *role) pursueHealth(now time.Duration) {
	if r.fit.sick == nil || !r.phase.open() {
		return
	}
	cause := &unwell{r.fit.sick}
	if r.handing == nil {
		r.handOver(now, 0, cause)
	}
	if r.phase.open() { // nobody can take it
		r.end(now, cause)
	}
}

// unwell is [ErrUnhealthy] with the check's error. Who has it knows it by its type: to look for ErrUnhealthy in whatever has ended a role would
// call methods of the program's errors.
type unwell struct{ sick error }

func (e *unwell) Error() string { return fmt.Sprintf("%v: %v", ErrUnhealthy, e.sick) }

// Unwrap returns both.
func (e *unwell) Unwrap() []error { return []error{ErrUnhealthy, e.sick} }

// A damper makes a member stay away from the role: for longer each time that there is a reason soon after the last.
type damper struct {
	until  time.Duration // before which it stays away
	length time.Duration // of the last time
}

// again is told that there is a reason to stay away, for so long the first time.
func (d *damper) again(now, base time.Duration) {
	if d.length = min(2*d.length, maxCoolDowns*base); d.length == 0 || now >= d.until+d.length {
		d.length = base
	}
	d.until = now + d.length
}

// maxCoolDowns is how many times Config.CoolDown a member stays away at most.
const maxCoolDowns = 8
