package ha_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// row is what a node says of a member.
func row(n *ha.Node, name string) ha.MemberStatus {
	for _, m := range n.Members() {
		if m.Name == name {
			return m
		}
	}
	return ha.MemberStatus{}
}

// TestT15_LivenessList: every member lists all, with role, position and obstacles; the same everywhere; one that leaves is known to
// have left, and one that vanishes is suspected, then dead.
func TestT15_LivenessList(t *testing.T) {
	t.Parallel()
	r := sickAtFirst()
	c := withRoles(t, 3, r, func(cfg *ha.Config) { cfg.CoolDown = time.Hour })
	c.startAll()
	eventually(t, "somebody's OnActive has failed", func() bool { return len(r.of(0)) > 0 })
	first := r.of(0)[0] // of the first epoch, unless a busy machine has ended that before
	_, s := c.await("active again", func(s ha.Status) bool { return s.State == ha.Active && s.Token.Supersedes(first.token) })
	token, sick := s.Token.Holder, first.member
	c.put(number(1))
	for _, n := range c.nodes {
		eventually(t, "all are listed as they are", func() bool {
			active, cool := 0, 0
			for _, m := range n.Members() {
				self := m.Name == n.Status().Name
				if m.Liveness != ha.Alive || m.Addr == "" || m.Heard.IsZero() || m.Epoch < 2 || m.Applied < 1 || m.Lag != 0 || self != (m.RoundTrip == 0) {
					return false
				}
				if m.State == ha.Active && m.Name == token {
					active++
				}
				for _, o := range m.Obstacles {
					if o.Kind == ha.ObstacleCoolDown {
						if m.Name != sick || !strings.HasPrefix(o.Text, "OnActive: sick") || time.Until(o.Until) < 59*time.Minute || time.Since(o.Since) > time.Minute {
							t.Errorf("%s has the obstacle %+v", m.Name, o)
						}
						cool++
					}
				}
			}
			return active == 1 && cool == 1
		})
	}
	list, err := json.Marshal(c.nodes[token].Members())
	if want := `"liveness":"Alive","state":"Active","epoch":`; err != nil || !strings.Contains(string(list), want) {
		t.Errorf("%s, %v; want %s in it", list, err, want)
	}

	// The one that cools down is not handed the role, although it is alive and has everything.
	third := ""
	for _, m := range c.others(token) {
		if m != sick {
			third = m
		}
	}
	c.stop(third)
	n := c.nodes[token]
	eventually(t, third+" has left", func() bool { return row(n, third).Liveness == ha.Left && row(c.nodes[sick], third).Liveness == ha.Left })
	if s := n.Status(); s.State == ha.Active && token != sick {
		err := n.Become(t.Context(), ha.Standby)
		if s := n.Status(); s.State == ha.Active && (err == nil || !strings.Contains(err.Error(), sick+": cool-down")) {
			t.Errorf("Become(Standby) where only one that cools down is left: %v", err)
		}
		if err := c.nodes[sick].Become(t.Context(), ha.Active); err != nil { // it knows better
			t.Errorf("Become(Active) on it: %v", err)
		}
	}
	c.closeAll()
}
