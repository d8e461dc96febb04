package ha

import (
	"context"

	"github.com/baton-ha/baton/fence"
)

// Tenure returns the token of this member's present time as the Active, and the ctx that OnActive was given: it ends with the role,
// [context.Cause] says why. It is for work that is not done in OnActive, as that of a server's handlers. Otherwise the error is a
// *[NotActiveError], or [ErrClosed]. It costs a clock reading.
func (n *Node) Tenure() (context.Context, fence.Token, error) {
	if t := n.tenure.Load(); t != nil && n.holds(t) {
		return t.ctx, t.token, nil
	}
	return nil, fence.Token{}, n.notActive()
}
