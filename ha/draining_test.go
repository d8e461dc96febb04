package ha_test

import (
	"context"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// Whoever drains keeps the lease, and can see for how long, until OnActive has returned.
func TestDrainingKeepsLease(t *testing.T) {
	t.Parallel()
	draining, release := make(chan *ha.Node, 3), make(chan struct{}) // room for each member
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.OnActive = func(ctx context.Context, _ fence.Token) error {
			<-ctx.Done()
			draining <- ha.FromContext(ctx)
			<-release
			return nil
		}
	})
	c.startAll()
	active, _ := c.active()
	handed := make(chan error, 1)
	go func() { handed <- active.Become(t.Context(), ha.Standby) }()
	n := receive(t, "the end of the role", draining)
	time.Sleep(2 * time.Second) // what the lease was at the end of the role is over
	eventually(t, "the lease goes on, or the role was lost to a busy machine", func() bool {
		s := n.Status()
		return s.Lease > 0 || s.State != ha.Draining
	})
	close(release)
	if err := receive(t, "the hand-over", handed); err != nil {
		t.Error(err)
	}
}
