// Package tenure binds what a program's own server is asked to the role in which it is served.
package tenure

import (
	"context"
	"errors"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// Await returns what [ha.Node.Tenure] does. While nobody is known to be Active it waits for somebody, for as long as wait and ctx
// allow.
func Await(ctx context.Context, n *ha.Node, wait time.Duration) (role context.Context, t fence.Token, err error) {
	role, t, err = n.Tenure()
	if known(err) || wait <= 0 {
		return role, t, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for range n.Watch(ctx) {
		if role, t, err = n.Tenure(); known(err) {
			break
		}
	}
	return role, t, err
}

// known reports whether what Tenure has returned names somebody, or will not change.
func known(err error) bool {
	var not *ha.NotActiveError
	return !errors.As(err, &not) || not.Active != ""
}

// Elsewhere returns the member that is Active according to an error of Await, nil if nobody is known who is not n itself: its role has just ended, or just begun.
func Elsewhere(n *ha.Node, err error) *ha.NotActiveError {
	var not *ha.NotActiveError
	if !errors.As(err, &not) || not.Active == "" || not.Active == n.Status().Name {
		return nil
	}
	return not
}

// Within returns a ctx that ends with the role, too, and by the same cause.
func Within(ctx, role context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(role, func() { cancel(context.Cause(role)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
