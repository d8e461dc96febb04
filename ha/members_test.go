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
		waiting := c.nodes[name]
		eventually(t, name+" says what it waits for", func() bool {
			return slices.ContainsFunc(waiting.Status().Obstacles, func(o ha.Obstacle) bool { return o.Kind == ha.ObstacleUnborn })
		})
		if s := waiting.Status(); s.State != ha.Electing {
			t.Errorf("%s is %+v", name, s)
		}
		c.stop(name)
		if err := os.RemoveAll(c.config(name).Dir); err != nil {
			t.Fatal(err)
		}
		cfg := c.config(name)
		n, err := ha.Open(cfg)
		if err == nil {
			n.Close()
		}
		if left := tree(t, cfg.Dir); !errors.Is(err, transport.ErrUnknownMember) || left != "" {
			t.Errorf("%s, with an empty directory: %v, and it has left %q", name, err, left)
		}
	}
	c.awaitSum(8, 2)
}
