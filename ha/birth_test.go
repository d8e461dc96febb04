package ha_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// remains checks for a while that nobody becomes Active or leads.
func (c *cluster) remains(what string, lasts time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for name, n := range c.nodes {
			if s := n.Status(); s.Leader != "" || s.Active != "" {
				c.t.Fatalf("%s: %s is %+v", what, name, s)
			}
		}
	}
}

func (c *cluster) lose(names ...string) {
	c.t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(c.config(name).Dir); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestBirth_TwoEmptyDirectories: two members that have lost their directories do not elect each other, and the one that
// remembers refuses both.
func TestBirth_TwoEmptyDirectories(t *testing.T) {
	t.Parallel()
	c := used(t)
	for _, m := range c.members {
		c.stop(m.Name)
	}
	c.lose("b", "c")
	c.start("b", "c")
	c.remains("two empty directories", 2*time.Second)
	c.start("a")
	for _, name := range []string{"b", "c"} {
		eventually(t, name+" is refused", func() bool {
			s := c.nodes[name].Status()
			return s.State == ha.Failed && errors.Is(s.Err, ha.ErrForgotten)
		})
	}
	if s := c.nodes["a"].Status(); s.State != ha.Electing {
		t.Errorf("a is %+v", s)
	}
}

// TestBirth_AwaitsEveryone: a new cluster begins when its last member has come, whatever the others have gone through
// until then: restarts, and directories lost before anybody was born.
func TestBirth_AwaitsEveryone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	c.start("a", "b")
	c.remains("one is missing", 1500*time.Millisecond)
	eventually(t, "a says what it waits for", func() bool {
		return hasObstacle(c.nodes["a"], ha.ObstacleUnborn, ha.ErrUnborn, "waiting for c (unreachable")
	})
	c.stop("b")
	c.start("b") // with the same directory
	c.remains("one has restarted", 200*time.Millisecond)
	c.stop("b")
	c.lose("b")
	c.start("c")
	c.remains("one was lost", 500*time.Millisecond)
	c.stop("a")
	c.start("b")
	c.remains("one is stopped", 500*time.Millisecond)
	c.start("a")
	c.put(number(7))
	c.awaitSum(7, 1)
	if hasObstacle(c.nodes["a"], ha.ObstacleUnborn, nil, "") {
		t.Error("the obstacle outlives the birth")
	}
	c.stop("b")
	c.start("b")
	c.put(number(1))
	c.awaitSum(8, 2)
}

// hasObstacle reports whether a node shows an obstacle with an error and a text.
func hasObstacle(n *ha.Node, kind ha.ObstacleKind, err error, text string) bool {
	return slices.ContainsFunc(n.Status().Obstacles, func(o ha.Obstacle) bool {
		return o.Kind == kind && (err == nil || errors.Is(o.Err, err)) && strings.Contains(o.Text, text)
	})
}

// TestBirth_FormWithout: a cluster begins without a member where somebody says so, and that one joins later.
func TestBirth_FormWithout(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		if cfg.Name == "a" {
			cfg.FormWithout = []string{"c"}
		}
	})
	c.start("a", "b")
	c.put(number(7))
	c.start("c")
	c.awaitSum(7, 1)
	c.stop("b")
	c.put(number(1)) // with the vote of c
	c.stop("c")
	c.start("b")
	c.lose("c")
	if n, err := ha.Open(c.config("c")); !errors.Is(err, ha.ErrForgotten) {
		t.Errorf("c came back empty: %v", err)
		if err == nil {
			n.Close()
		}
	}
}

// TestBirth_FormWithoutASurvivor: whoever remembers an earlier life is listened to if he can be reached, whatever somebody
// has said.
func TestBirth_FormWithoutASurvivor(t *testing.T) {
	t.Parallel()
	c := used(t)
	for _, m := range c.members {
		c.stop(m.Name)
	}
	c.lose("b", "c")
	c.start("a")
	cfg := c.config("b")
	cfg.FormWithout = []string{"a"}
	if n, err := ha.Open(cfg); !errors.Is(err, ha.ErrForgotten) {
		t.Errorf("open: %v", err)
		if err == nil {
			n.Close()
		}
	}
	c.stop("a")
	c.edit = func(cfg *ha.Config) {
		quick(cfg)
		if cfg.Name != "a" {
			cfg.FormWithout = []string{"a"}
		}
	}
	c.start("b", "c") // now it is as it was said
	c.put(number(3))
	n, err := ha.Open(c.config("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	time.Sleep(time.Second)
	if s := n.Status(); s.Leader != "" {
		t.Errorf("the survivor of the earlier life is %+v", s)
	}
}
