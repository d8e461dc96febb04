package ha_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A member does what another asks of it, for an operator, if its configuration says so; else nothing is done, and the one who asks is told.
func TestCommandsOfMembers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) { cfg.ObeyMembers = cfg.Name != "c" })
	c.startAll()
	c.active()
	away := func(name string) bool {
		return slices.ContainsFunc(c.nodes[name].Status().Obstacles, func(o ha.Obstacle) bool { return o.Kind == ha.ObstacleAway })
	}
	eventually(t, "each knows who obeys", func() bool {
		for _, m := range c.nodes["c"].Members() {
			if m.Name != "c" && !m.Obeys {
				return false
			}
		}
		for _, m := range c.nodes["a"].Members() {
			if m.Name == "c" && m.Heard.IsZero() || m.Name == "c" && m.Obeys {
				return false
			}
		}
		return true
	})
	asks := c.nodes["c"]
	for _, name := range []string{"a", "b"} { // the one that is Active hands over for it, if there is somebody
		eventually(t, name+" stays away", func() bool {
			err := asks.StayAwayOf(t.Context(), name, "new disk")
			if err != nil && !errors.Is(err, ha.ErrNoSuccessor) && !errors.Is(err, ha.ErrNotHandedOver) {
				t.Fatalf("%s: %v", name, err)
			}
			return err == nil && away(name)
		})
		if err := asks.ComeBackOf(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is back", func() bool { return !away(name) })
	}
	a := c.nodes["a"]
	for what, err := range map[string]error{
		"become Active": a.BecomeOf(t.Context(), "c", ha.Active), "hand over": a.BecomeOf(t.Context(), "c", ha.Standby),
		"stay away": a.StayAwayOf(t.Context(), "c", "x"), "come back": a.ComeBackOf(t.Context(), "c"),
	} {
		if !errors.Is(err, ha.ErrNotObeyed) {
			t.Errorf("%s, of one that does not obey: %v", what, err)
		}
	}
	if away("c") {
		t.Error("c stays away")
	}
	if err := a.StayAwayOf(t.Context(), "d", "x"); !errors.Is(err, ha.ErrNoMember) {
		t.Errorf("of nobody: %v", err)
	}
	if err := a.BecomeOf(t.Context(), "b", ha.Failed); err == nil {
		t.Error("a member was asked to be Failed")
	}
	for _, name := range []string{"a", "b"} {
		eventually(t, name+" becomes Active", func() bool {
			err := asks.BecomeOf(t.Context(), name, ha.Active)
			return err == nil && c.nodes[name].Status().State == ha.Active
		})
	}
	eventually(t, "it stays away itself", func() bool { return asks.StayAwayOf(t.Context(), "c", "x") == nil && away("c") })
	c.stop("b")
	if err := a.StayAwayOf(t.Context(), "b", "x"); !errors.Is(err, ha.ErrNotReached) && !errors.Is(err, ha.ErrUnknown) {
		t.Errorf("of one that is down: %v", err)
	}
}
