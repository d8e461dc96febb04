package ha

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/baton-ha/baton/log"
)

// The errors of Append; all but [ErrUnknown] are definite: the record is not in the log and never
// will be (G3).
var (
	// ErrFenced: the token's epoch is over.
	ErrFenced = log.ErrFenced
	// ErrNotActive: this member is not the Active. The error is a *[NotActiveError], which says who
	// is, as far as this member knows; but where the Active itself is given what is no token of its cluster.
	ErrNotActive = log.ErrNotActive
	// ErrTooLarge: the record is larger than Config.MaxRecord.
	ErrTooLarge = log.ErrTooLarge
	// ErrBusy: Config.MaxPending bytes of appends are waiting already. Returned at once.
	ErrBusy = log.ErrBusy
	// ErrNoRoom: this member's disk is nearly full, or checkpoints have failed for so long that no more log can
	// be kept. It goes on by itself when there is room again; Status says what is wrong. The error is a *[NoRoomError], which
	// matches ErrBusy, too.
	ErrNoRoom = log.ErrNoRoom
	// ErrUnknown: ctx ended, or the node closed, before the fate of the record was known.
	ErrUnknown = log.ErrUnknown
	// ErrClosed: the node is closed or has failed; Status says why.
	ErrClosed = log.ErrClosed
	// ErrCompacted is matched by the *[CompactedError] that Subscribe yields when a record is no
	// longer held.
	ErrCompacted = log.ErrCompacted
)

// Why the ctx of a callback ended: [context.Cause] tells. It is one of these, [ErrClosed], or the error
// that OnActive itself returned.
var (
	// ErrLeaseExpired: no majority of the members answered in time.
	ErrLeaseExpired = fmt.Errorf("%w: the lease expired", errEnded)
	// ErrDeposed: another member leads, or a newer epoch has started.
	ErrDeposed = fmt.Errorf("%w: deposed", errEnded)
	// ErrHandedOver: the role is being handed to another member.
	ErrHandedOver = fmt.Errorf("%w: handed over", errEnded)
	// ErrUnhealthy: Config.Health says that this member is not well. The check's error is wrapped in it.
	ErrUnhealthy = fmt.Errorf("%w: the member is not well", errEnded)
	// ErrActivating ends OnStandby's ctx: this member is about to become Active.
	ErrActivating = fmt.Errorf("%w: about to become active", errEnded)
)

// errEnded is in the cause of every ctx that ended in the ordinary course of things.
var errEnded = errors.New("baton: the role has ended")

// The errors of Become, Open and the node's start.
var (
	// ErrNoSuccessor is returned by Become when no other member is alive and caught up, so that there
	// is nobody to hand the role to. The role stays where it is. An *[ObstacleError] with it says what is in the way of each.
	ErrNoSuccessor = errors.New("baton: no other member is alive and caught up")
	// ErrNotHandedOver is returned by Become when the other member did not take over in time, has left meanwhile, or has
	// just started and cannot. This member goes on, in a new epoch.
	ErrNotHandedOver = errors.New("baton: the other member did not take over")
	// ErrMembers is returned, wrapped, by Open when the directory is a member's of a new cluster that has not begun yet, and Config.Members
	// are not those that it was made for. Once the cluster has begun, the list is in its log, and another one is no error.
	ErrMembers = errors.New("baton: Config.Members are not the cluster's members")
	// ErrStateMachine is returned, wrapped, by Open when the directory was kept with a StateMachine and
	// Config has none, or the other way.
	ErrStateMachine = log.ErrStateMachine
	// ErrReentrant is returned, wrapped, by Append, Become, Close and Shutdown when they are called within a
	// callback or a method of the StateMachine, on its goroutine, and would wait there for themselves. The
	// record is not in the log. Call them on another goroutine, and do not wait for it there.
	ErrReentrant = log.ErrReentrant
	// ErrNotChosen is returned by Become when the Active did not hand its role to this member in
	// time, for instance because this member lags behind. An *[ObstacleError] with it says what is in this member's way.
	ErrNotChosen = errors.New("baton: the active did not hand over to this member")
)

// A NotActiveError says who is the Active, so that a client can be sent there.
type NotActiveError struct {
	Active string // name of the Active, "" if not known
	Addr   string // its address in the list of the members
	// Advertise is where its own service is reached, "" if it has not said so.
	Advertise string
}

func (e *NotActiveError) Error() string {
	if e.Active == "" {
		return "baton: not active; no active is known"
	}
	return fmt.Sprintf("baton: not active; the active is %s at %s", e.Active, cmp.Or(e.Advertise, e.Addr))
}

// Is reports a match with [ErrNotActive].
func (e *NotActiveError) Is(target error) bool { return target == ErrNotActive }

// returned is what the role machine is told of a callback's error. The error's own methods are called here, on
// the callback's goroutine, and never again: they are the program's, and the loop must not wait for them.
func returned(err error) callbackDone {
	if err == nil {
		return callbackDone{}
	}
	return callbackDone{err: fmt.Errorf("%w", err), ended: isEnd(err)}
}

// isEnd reports whether a callback's error only says that its ctx has ended.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, errEnded)
}
