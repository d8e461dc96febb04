package ha

import (
	"context"
	"time"

	"github.com/baton-ha/baton/internal/wire"
)

// announce has the list name where this member's own service is reached, whenever it does not, until ctx ends. A member says so only of
// itself, so it can say something else after each start.
func (n *Node) announce(ctx context.Context) {
	for {
		changed := *n.changed.Load()
		var pause <-chan time.Time
		if m, ok := n.roster().Find(n.self.ID); ok && m.Advertise != n.cfg.Advertise {
			err := n.change(ctx, wire.Change{Op: wire.OpAdvertise, Name: n.cfg.Name, Advertise: n.cfg.Advertise})
			n.problem("", problemAdvertise, err)
			if err != nil {
				// What stands in the way does not go away with each change.
				changed, pause = nil, time.After(n.cfg.ElectionTimeout)
			}
		}
		select {
		case <-changed:
		case <-pause:
		case <-ctx.Done():
			return
		}
	}
}
