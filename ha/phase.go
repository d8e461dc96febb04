package ha

import (
	"fmt"
	"time"

	"github.com/baton-ha/baton/fence"
)

// A phase is one run of a callback: of OnActive if it is active, else of OnStandby.
//
// Invariant: one callback runs at a time. A phase begins when the callback of the last has returned.
type phase struct {
	active   bool
	token    fence.Token // of an active phase
	ended    bool        // its ctx is over
	returned bool        // its callback has returned
	endedAt  time.Duration
}

// open reports whether it is the phase of an Active whose ctx is open.
func (p *phase) open() bool { return p.active && !p.ended }

// over reports whether another phase may follow.
func (p *phase) over() bool { return p.ended && p.returned }

// hung reports whether the callback has not returned although its ctx is over for as long as it may take.
func (p *phase) hung(now, drain time.Duration) bool {
	return p.ended && !p.returned && now >= p.endedAt+drain
}

// callback is the name of what runs in it.
func (p *phase) callback() string {
	if p.active {
		return "OnActive"
	}
	return "OnStandby"
}

// done notes that the callback has returned. It returns the error that is worth telling, if there is one.
func (p *phase) done(d callbackDone) error {
	p.returned = true
	if d.err == nil || p.ended && d.ended { // that the ctx has ended is known
		return nil
	}
	return fmt.Errorf("baton: %s: %w", p.callback(), d.err)
}
