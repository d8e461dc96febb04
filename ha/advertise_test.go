package ha_test

import (
	"errors"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// Where a program is reached is named by every member, and another place after a restart.
func TestAdvertise(t *testing.T) {
	t.Parallel()
	at := map[string]string{"a": "http://a/1", "b": "http://b/1", "c": "http://c/1"}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		cfg.Advertise = at[cfg.Name]
	})
	c.startAll()
	named := func() bool {
		for _, n := range c.nodes {
			for _, m := range n.Members() {
				if m.Advertise != at[m.Name] {
					return false
				}
			}
			if s := n.Status(); s.Active == "" || s.ActiveAdvertise != at[s.Active] {
				return false
			}
		}
		return true
	}
	eventually(t, "everybody names everybody's service", named)
	for name, n := range c.nodes {
		s := n.Status()
		if s.Active == name {
			continue
		}
		_, err := n.Append(t.Context(), s.Token, number(1))
		var not *ha.NotActiveError
		if !errors.As(err, &not) || not.Advertise != at[not.Active] && not.Active != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.stop("b")
	at["b"] = "http://b/2"
	c.start("b")
	eventually(t, "everybody names the new place", named)
	c.closeAll()
}
