package ha_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/transport"
)

// TestT13_MemberListGrown: a cluster of one is not made one of three by editing the list: it goes on as it is, and the two new ones
// neither join it nor elect each other, whoever starts first.
func TestT13_MemberListGrown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	all := c.members
	c.members = all[:1]
	c.start("a")
	c.put(number(7))
	c.stop("a")
	c.members = all
	c.start("b", "c") // nobody is there to ask
	c.start("a")
	c.put(number(1))
	for _, name := range []string{"b", "c"} {
		n := c.nodes[name]
		eventually(t, name+" says what it waits for", func() bool {
			return slices.ContainsFunc(n.Status().Obstacles, func(o ha.Obstacle) bool { return o.Kind == ha.ObstacleUnborn })
		})
		if s := n.Status(); s.State != ha.Electing {
			t.Errorf("%s is %+v", name, s)
		}
		c.stop(name)
		if err := os.RemoveAll(c.config(name).Dir); err != nil {
			t.Fatal(err)
		}
		if err := refusedOpen(t, c.config(name)); !errors.Is(err, transport.ErrUnknownMember) {
			t.Errorf("%s, with an empty directory: %v", name, err)
		}
	}
	c.awaitSum(8, 2)
}
