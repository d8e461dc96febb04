package ha

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/baton-ha/baton/log"
)

// Previous is who was Active before the member that is about to be, as [Config.OnFence] is told it.
type Previous struct {
	// Name is the member that opened Epoch, the last one. Epoch's token was the last that anybody could have been given.
	Name string
	// Addr is its address in the list of the members, host:port; "" if it is in the list no more.
	Addr  string
	Epoch uint64
	// Ended is how its time is known to have ended.
	Ended Ending
	// By is the member that is about to become Active: this one.
	By string
}

// An Ending is how the time of an Active is known to have ended, in one word, for programs.
type Ending string

// The endings. With each the Active's lease is over; only what happened outside of this package can be in doubt.
const (
	// EndedHandedOver: it gave the role up itself. Its OnActive has returned, or DrainTimeout has passed.
	EndedHandedOver Ending = "handed-over"
	// EndedLease: a majority had promised it its lease, and that has run out by their clocks. The process may live, or be stopped.
	EndedLease Ending = "lease-expired"
	// EndedGone: its process is gone: its host ended its connections in order, and refused others (see Config.NoCrashEvidence).
	EndedGone Ending = "process-gone"
	// EndedRestarted: it was an earlier process of this member. The lock on the directory says that it is gone.
	EndedRestarted Ending = "restarted"
	// EndedUnknown: somebody else has led since without becoming Active, and nothing more is known here.
	EndedUnknown Ending = "unknown"
)

// endings are the log's in our words.
var endings = map[log.Ending]Ending{
	log.EndUnknown: EndedUnknown, log.EndSilent: EndedLease, log.EndGone: EndedGone, log.EndTransfer: EndedHandedOver,
}

// FencePolicy says what a failed [Config.OnFence] means.
type FencePolicy uint8

const (
	// FenceRequired: nobody becomes Active before an OnFence has returned nil. The member whose OnFence fails hands on,
	// stays away for Config.CoolDown and tries again then, if it leads.
	FenceRequired FencePolicy = iota
	// FenceBestEffort: a failure is reported, and the member becomes Active.
	FenceBestEffort
)

// validateFence reports what is wrong with the configuration of OnFence, defaults filled in.
func (c Config) validateFence(wrong func(format string, args ...any)) {
	if c.FenceTimeout < 0 {
		wrong("FenceTimeout: %v is negative", c.FenceTimeout)
	}
	if c.FencePolicy > FenceBestEffort {
		wrong("FencePolicy: there is no policy %d", c.FencePolicy)
	}
}

// fenceTimeout is how long OnFence may take, 0 if there is none.
func (n *Node) fenceTimeout() time.Duration {
	if n.cfg.OnFence == nil {
		return 0
	}
	return n.cfg.FenceTimeout
}

// errFenceTimeout is the cause of the end of an OnFence's ctx that took too long.
var errFenceTimeout = errors.New("baton: OnFence has not returned in time")

// runFence runs OnFence.
func (n *Node) runFence(p Previous) {
	p.Addr, p.By = n.roster().addrOf(p.Name), n.cfg.Name
	ctx, cancel := context.WithCancelCause(context.WithValue(context.Background(), nodeKey{}, n))
	n.cancelFence = cancel
	var done fenceDone
	n.callbacks.Add(1)
	n.calls.Go("OnFence", func() error { done = fenceOver(ctx, n.cfg.OnFence(ctx, p)); return nil }, func(err error) {
		if err != nil {
			done = fenceDone{err: err}
		}
		cancel(nil)
		n.log.Post(done)
		n.callbacks.Done()
	})
}

// fenceOver is what the role machine is told of OnFence's error: that it has ended because this member does not lead any more is
// no failure.
func fenceOver(ctx context.Context, err error) fenceDone {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return fenceDone{}
	case cause == errFenceTimeout:
		return fenceDone{err: fmt.Errorf("%w: %w", cause, err)}
	case cause != nil:
		return fenceDone{err: fmt.Errorf("%w", err), ended: true}
	}
	return fenceDone{err: fmt.Errorf("%w", err)}
}
