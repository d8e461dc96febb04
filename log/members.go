package log

import (
	"context"
	"fmt"

	"github.com/baton-ha/baton/internal/core"
)

// Roster returns the members of the cluster as of what is committed here.
func (l *Log) Roster() Roster {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	return l.store.pos.Roster
}

// Reconfigure asks for a change of the members, waits until it is in force on this member, which must lead, and returns the
// version of the roster that it makes. A change of the voters is then still to be agreed on by both majorities: the roster says
// so, and the [Observer] sees the end. Errors that match [ErrNotLeader], [ErrNotYetSettled], [ErrChanging], [ErrOutdated] and
// [ErrBadChange] mean that nothing has changed and nothing will; [ErrUnknown] and the cause of ctx leave it open.
func (l *Log) Reconfigure(ctx context.Context, change MemberChange) (version uint64, err error) {
	r := &core.Reconfiguration{Change: change}
	answer := make(chan core.Decided, 1)
	l.asked.Store(r, answer)
	defer l.asked.Delete(r)
	l.Post(core.Reconfigure{Reconfiguration: r})
	select {
	case d := <-answer:
		return d.Version, d.Err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	case <-l.stopped:
		return 0, fmt.Errorf("%w: %w", ErrUnknown, ErrClosed)
	}
}

// decided answers who has asked for a change of the members.
func (l *Log) decided(d core.Decided) {
	if answer, ok := l.asked.Load(d.Reconfiguration); ok {
		answer.(chan core.Decided) <- d // of size 1, answered once
	}
}
