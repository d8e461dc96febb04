package ha

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// This file is what happens when OnActive goes on although its role has ended: others have taken over, and what it does to the
// outside is a danger where nobody looks at tokens.

// A Watchdog ends the process, or the machine, when it is not fed in time. Package ha/watchdog has systemd's and the kernel's.
// It is used by one goroutine at a time; Feed may block for less than Every. One that blocks for longer, fails or panics has not fed it:
// that is the problem "watchdog".
type Watchdog interface {
	Feed() error
	Every() time.Duration // between two feedings
	Close() error
}

// ExitOnStuck is for [Config.OnStuck]: it says why on standard error, and ends the process with status 70.
func ExitOnStuck(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(70) // EX_SOFTWARE
}

// watchStuck looks after an OnActive, beside the loop, until it has returned.
func (n *Node) watchStuck(ctx context.Context, returned <-chan struct{}) {
	select {
	case <-returned:
		return
	case <-ctx.Done():
	}
	t := time.NewTimer(n.cfg.DrainTimeout)
	defer t.Stop()
	select {
	case <-returned:
		return
	case <-t.C:
	}
	n.stuck.Store(true)
	defer n.stuck.Store(false)
	if n.cfg.OnStuck != nil {
		reason := fmt.Sprintf("baton: OnActive of %s has not returned, %v after its ctx had ended: %v", n.cfg.Name, n.cfg.DrainTimeout, context.Cause(ctx))
		if err := n.calls.Do("OnStuck", func() error { n.cfg.OnStuck(reason); return nil }); err != nil {
			n.cfg.Logger.Error("callback failed", "member", n.cfg.Name, "err", fmt.Errorf("baton: OnStuck: %w", err))
		}
	}
	<-returned
}

// problemWatchdog is the kind of problem of a watchdog that cannot be fed.
const problemWatchdog = "watchdog"

// feedWatchdog feeds the watchdog as long as the loop runs and no OnActive is stuck, until the member has ended and its callbacks
// have returned.
func (n *Node) feedWatchdog() {
	over := make(chan struct{})
	go func() {
		<-n.ended
		n.callbacks.Wait()
		close(over)
	}()
	every := time.NewTicker(n.cfg.Watchdog.Every())
	defer every.Stop()
	fed := make(chan error, 1)
	for feeding := false; ; {
		switch {
		case feeding:
			n.problem("", problemWatchdog, errors.New("baton: Watchdog.Feed has not returned"))
		case n.stuck.Load():
			n.problem("", problemWatchdog, errors.New("baton: it is not fed, since OnActive has not returned"))
		case !n.hasEnded() && n.stands(n.clock()):
			n.problem("", problemWatchdog, errors.New("baton: it is not fed, since the goroutine that decides about the role stands still"))
		default:
			feeding = true
			n.calls.Go("Watchdog.Feed", n.cfg.Watchdog.Feed, func(err error) { fed <- err })
		}
		for tick := false; !tick; {
			select {
			case err := <-fed:
				feeding = false
				n.problem("", problemWatchdog, err)
			case <-every.C:
				tick = true
			case <-over:
				n.closeWatchdog(feeding, fed)
				return
			}
		}
	}
}

// closeWatchdog closes the watchdog once it is not being fed.
func (n *Node) closeWatchdog(feeding bool, fed <-chan error) {
	if feeding {
		<-fed
	}
	if err := n.calls.Do("Watchdog.Close", n.cfg.Watchdog.Close); err != nil {
		n.cfg.Logger.Warn("close the watchdog", "member", n.cfg.Name, "err", err)
	}
}
