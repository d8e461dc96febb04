package ha_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// arbitrated is a cluster of which the last member is an arbiter.
func arbitrated(t *testing.T, size int, edit func(*ha.Config)) *cluster {
	c := newCluster(t, size, func(cfg *ha.Config) {
		cfg.CheckpointBytes, cfg.RetainBytes = 8<<10, 4<<10
		if edit != nil {
			edit(cfg)
		}
	})
	c.members[size-1].Kind = ha.KindArbiter
	return c
}

// startArbitrated starts a member of such a cluster: an arbiter has no state machine.
func (c *cluster) startArbitrated(names ...string) {
	c.t.Helper()
	for _, name := range names {
		c.bare = name == c.members[len(c.members)-1].Name
		c.start(name)
	}
	c.bare = false
}

// TestArbiter: two members with a state and an arbiter. The arbiter takes checkpoints of theirs and cuts its log, is never active,
// and when only it and a member that lags are left, it leads until that member has everything that was acknowledged, and hands over.
func TestArbiter(t *testing.T) {
	t.Parallel()
	c := arbitrated(t, 3, quick)
	c.startArbitrated("a", "b", "c")
	c.active()
	c.listed("c is an arbiter", "c", func(m ha.MemberStatus, _ bool) bool { return m.Kind == ha.KindArbiter && m.State == ha.Arbiter })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	arbiter := c.nodes["c"]
	var refused *ha.ObstacleError
	if err := arbiter.Become(ctx, ha.Active); !errors.As(err, &refused) || refused.Obstacles["c"][0].Kind != ha.ObstacleArbiter {
		t.Errorf("an arbiter wants to be active: %v", err)
	}
	for c.nodes["c"].Stats().Storage.Installed == 0 { // checkpoints that it has taken
		c.put(filler(1))
		if ctx.Err() != nil {
			t.Fatal("the arbiter has taken no checkpoint")
		}
	}

	// One is away, and the log that it lacks is held by nobody any more.
	_, token := c.active()
	first, late := token.Holder, c.others(token.Holder, "c")[0]
	c.stop(late)
	taken := c.nodes["c"].Stats().Storage.Installed
	for c.nodes["c"].Stats().Storage.Installed < taken+3 {
		c.put(filler(1))
		if ctx.Err() != nil {
			t.Fatal("the arbiter has taken no checkpoint")
		}
	}
	_, acknowledged := c.sums[first].value()
	c.stop("c") // it has nothing in memory
	c.startArbitrated("c")
	c.put(number(1))
	c.stop(first)
	c.startArbitrated(late)
	n, s := c.await("takeover by the one that was away", func(s ha.Status) bool { return s.State == ha.Active })
	if _, has := c.sums[late].value(); s.Name != late || has <= acknowledged {
		t.Errorf("%s is active, with %d of %d records", s.Name, has, acknowledged+1)
	}
	c.put(number(1))
	for _, p := range n.Status().Problems {
		if p.Kind == "snapshot" || p.Kind == "checkpoint" {
			t.Errorf("problem %v", p)
		}
	}
	if s := c.nodes["c"].Status(); s.State != ha.Arbiter {
		t.Errorf("the arbiter is %v", s.State)
	}
}

// TestArbiter_Added: an arbiter is added to a cluster that runs.
func TestArbiter_Added(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, quick)
	c.startAll()
	c.active()
	c.put(number(1))
	late := ha.Member{Name: "z", Addr: loopback.Addr(t), Kind: ha.KindArbiter}
	cfg := c.config("z")
	cfg.Members, cfg.Join = append(cfg.Members, late), true
	z, err := ha.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.nodes["z"] = z
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.nodes["a"].AddMember(ctx, late); err != nil {
		t.Fatal(err)
	}
	c.listed("z is an arbiter", "z", func(m ha.MemberStatus, _ bool) bool { return m.Kind == ha.KindArbiter && m.State == ha.Arbiter })
	_, token := c.active()
	c.stop(token.Holder) // with it and the one that is left there is a majority
	c.activeOtherThan(token)
	c.put(number(1))
}

// TestArbiter_Configured: what an arbiter cannot have is refused, and so is a cluster of arbiters.
func TestArbiter_Configured(t *testing.T) {
	t.Parallel()
	c := arbitrated(t, 3, nil)
	cfg := c.config("c")
	cfg.StateMachine = new(counter)
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "is an arbiter, and has neither") {
		t.Error(err)
	}
	cfg = c.config("a")
	for i := range c.members {
		c.members[i].Kind = ha.KindArbiter
	}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "arbiters alone") {
		t.Error(err)
	}
	c.members[0].Kind = ha.KindObserver
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "are voters and arbiters") {
		t.Error(err)
	}
}

// TestArbiter_OtherThanListed: a process that is not what the list says of it tells so, and is not active.
func TestArbiter_OtherThanListed(t *testing.T) {
	t.Parallel()
	c := arbitrated(t, 3, quick)
	c.startArbitrated("a", "b", "c")
	c.active()
	c.listed("c is an arbiter", "c", func(m ha.MemberStatus, _ bool) bool { return m.Kind == ha.KindArbiter })
	c.stop("c")
	c.members = append([]ha.Member(nil), c.members...)
	c.members[2].Kind = ha.KindVoter
	c.start("c") // with a state machine
	eventually(t, "it tells", func() bool {
		s := c.nodes["c"].Status()
		for _, p := range s.Problems {
			if p.Kind == "kind" {
				return s.State == ha.Arbiter
			}
		}
		return false
	})
}

// TestArbiter_Advertise: what the configuration of a new cluster says of its members, as which are arbiters and their priorities, is in
// its first list whatever else is asked for at once: here each member says where its program is reached.
func TestArbiter_Advertise(t *testing.T) {
	t.Parallel()
	c := arbitrated(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		cfg.Advertise = "at " + cfg.Name
	})
	c.members[1].Priority = 7
	c.startArbitrated("a", "b", "c")
	for _, want := range []ha.MemberStatus{{Name: "a", Kind: ha.KindVoter}, {Name: "b", Kind: ha.KindVoter, Priority: 7}, {Name: "c", Kind: ha.KindArbiter}} {
		c.listed(want.Name+" is as it was configured", want.Name, func(m ha.MemberStatus, _ bool) bool {
			return m.Kind == want.Kind && m.Priority == want.Priority && m.Advertise == "at "+want.Name
		})
	}
}
