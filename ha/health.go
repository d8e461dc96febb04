package ha

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/baton-ha/baton/internal/moment"
)

// This file calls Config.Health. What follows from it is the role machine's (sick.go).

// validateHealth reports what is wrong with the checks of health, defaults filled in.
func (c Config) validateHealth(wrong func(format string, args ...any)) {
	if c.HealthInterval < time.Millisecond {
		wrong("HealthInterval: %v is below 1ms", c.HealthInterval)
	}
	if c.HealthTimeout < 0 {
		wrong("HealthTimeout: %v is negative", c.HealthTimeout)
	}
	if c.HealthStrikes < 0 {
		wrong("HealthStrikes: %d is negative", c.HealthStrikes)
	}
}

// strikes is how many failed checks make this member sick, 0 if nobody checks.
func (n *Node) strikes() int {
	if n.cfg.Health == nil {
		return 0
	}
	return n.cfg.HealthStrikes
}

// watchHealth checks this member's health until it has ended. No check begins before the last has returned.
func (n *Node) watchHealth() {
	interval := moment.NewTicker(n.cfg.HealthInterval)
	defer interval.Stop()
	for !n.hasEnded() {
		n.checkHealth(interval.C)
		select {
		case <-interval.C:
		case <-n.ended:
		}
	}
}

// checkHealth checks once and waits for the check to return. One that takes too long has failed, and fails again with each tick.
func (n *Node) checkHealth(tick <-chan struct{}) {
	parent, cancel := context.WithCancel(context.WithValue(context.Background(), nodeKey{}, n))
	defer cancel()
	ctx, end := context.WithTimeoutCause(parent, n.cfg.HealthTimeout, errHealthTimeout)
	defer end()
	result := make(chan error, 1)
	var verdict error
	n.calls.Go("Health", func() error { verdict = verdictOf(n.cfg.Health(ctx)); return nil }, func(err error) {
		result <- cmp.Or(verdictOf(err), verdict)
	})
	late := ctx.Done()
	for over := false; ; {
		var ticks <-chan struct{}
		if over {
			ticks = tick
		}
		select {
		case err := <-result:
			if !over {
				n.log.Post(checked{err})
			}
			return
		case <-late:
			late, over = nil, true
			n.log.Post(checked{fmt.Errorf("%w within %v", errHealthTimeout, n.cfg.HealthTimeout)})
		case <-ticks:
			n.log.Post(checked{fmt.Errorf("%w within %v", errHealthTimeout, n.cfg.HealthTimeout)})
		case <-n.ended:
			cancel()
			<-result
			return
		}
	}
}

// errHealthTimeout is the error of a check that takes too long, and the cause of its ctx's end.
var errHealthTimeout = errors.New("baton: Health has not returned")

// verdictOf is a check's error as the role machine is told it: its own methods are called here, in the call of the check, and never again.
func verdictOf(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("baton: Health: %w", err)
}
