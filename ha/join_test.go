package ha_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/storage"
)

// joins has some members begin as ones that join, besides what edit does.
func (c *cluster) joins(names ...string) {
	edit := c.edit
	c.edit = func(cfg *ha.Config) {
		if edit != nil {
			edit(cfg)
		}
		cfg.Join = slices.Contains(names, cfg.Name)
	}
}

// heals is an edit that lets members come back by themselves.
func heals(cfg *ha.Config) {
	quick(cfg)
	cfg.Heal = true
}

// revive starts a member that is to be healed as a supervisor does: again and again, as long as none of the others answers.
func (c *cluster) revive(name string) {
	c.t.Helper()
	eventually(c.t, name+" starts", func() bool {
		cfg := c.config(name)
		c.sums[name] = new(counter)
		if cfg.StateMachine == nil {
			cfg.StateMachine = c.sums[name]
		}
		n, err := ha.Open(cfg)
		if err != nil {
			c.t.Logf("open %s: %v", name, err)
			return false
		}
		c.nodes[name] = n
		return true
	})
}

// ask asks the Active for a change until it is made.
func (c *cluster) ask(what string, change func(n *ha.Node) error) {
	c.t.Helper()
	eventually(c.t, what, func() bool {
		n, _ := c.active()
		err := change(n)
		if err != nil {
			c.t.Logf("%s: %v", what, err)
			time.Sleep(20 * time.Millisecond)
		}
		return err == nil
	})
}

// becomes waits until a member is in a state.
func (c *cluster) becomes(name string, want ha.State) {
	c.t.Helper()
	eventually(c.t, name+" is "+want.String(), func() bool { return c.nodes[name].Status().State == want })
}

// works waits until a member takes part in the cluster: as the Active or a standby.
func (c *cluster) works(name string) {
	c.t.Helper()
	eventually(c.t, name+" works", func() bool {
		s := c.nodes[name].Status()
		return s.State == ha.Standby || s.State == ha.Active
	})
}

// TestJoin: a member with an empty directory waits, for all to see and across restarts, until it is added to a cluster of one; then it gets all there is and
// may become active, and finds its cluster again after a restart without being told of more than itself.
func TestJoin(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, quick)
	all := c.members
	c.joins("b")
	c.members = all[:1]
	c.start("a")
	c.put(number(7))
	c.members = all[1:] // b knows of nobody
	c.start("b")
	c.becomes("b", ha.Joining)
	eventually(t, "b says what it waits for", func() bool {
		o := c.nodes["b"].Status().Obstacles
		return slices.ContainsFunc(o, func(o ha.Obstacle) bool { return o.Kind == ha.ObstacleJoining })
	})
	if err := c.nodes["b"].Become(t.Context(), ha.Active); !errors.Is(err, ha.ErrNotChosen) {
		t.Errorf("become active: %v", err)
	}
	c.stop("b")
	c.start("b")
	c.becomes("b", ha.Joining)
	c.ask("b is added", func(n *ha.Node) error { return n.AddMember(t.Context(), all[1]) })
	c.awaitSum(7, 1)
	c.works("b")
	c.put(number(1))
	c.awaitSum(8, 2)
	for _, name := range []string{"b", "a"} {
		c.stop(name)
		c.start(name)
		c.put(number(1))
		c.members = all // a is no member of b's configuration
	}
	c.awaitSum(10, 4)
}

// TestRemoved: a member that was removed stops, also if it was down then, with an error that says so, and disturbs nobody.
func TestRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4, quick)
	c.startAll()
	c.put(number(7))
	_, token := c.active()
	others := c.others(token.Holder)
	down, up := others[0], others[1]
	c.stop(down)
	for _, name := range []string{down, up} {
		c.ask(name+" is removed", func(n *ha.Node) error { return n.RemoveMember(t.Context(), name) })
	}
	c.start(down)
	for _, name := range []string{down, up} {
		n := c.nodes[name]
		eventually(t, name+" stops", func() bool { return n.Status().State == ha.Failed })
		if err := n.Status().Err; !errors.Is(err, ha.ErrRemoved) {
			t.Errorf("%s has stopped: %v", name, err)
		}
		if err := n.Close(); !errors.Is(err, ha.ErrRemoved) {
			t.Errorf("close of %s: %v", name, err)
		}
		delete(c.nodes, name)
	}
	c.put(number(1))
	c.awaitSum(8, 2)
}

// withNewcomer is a cluster of a, with a record, and of b, which waits to be added.
func withNewcomer(t *testing.T) *cluster {
	c := newCluster(t, 2, quick)
	c.joins("b")
	all := c.members
	c.members = all[:1]
	c.start("a")
	c.put(number(7))
	c.members = all
	c.start("b")
	return c
}

// TestRemoved_AtOnce: a member that was removed before it knew that it had been added stops, too, and does not wait for ever. With an empty
// directory it can be added again.
func TestRemoved_AtOnce(t *testing.T) {
	t.Parallel()
	c := withNewcomer(t)
	for range 5 {
		c.ask("b is added", func(n *ha.Node) error { return n.AddMember(t.Context(), c.members[1]) })
		c.ask("b is removed", func(n *ha.Node) error { return n.RemoveMember(t.Context(), "b") })
		b := c.nodes["b"]
		eventually(t, "b stops", func() bool { return b.Status().State == ha.Failed })
		if err := b.Close(); !errors.Is(err, ha.ErrRemoved) {
			t.Errorf("close of b: %v", err)
		}
		if err := os.RemoveAll(filepath.Join(c.dir, "b")); err != nil {
			t.Fatal(err)
		}
		c.start("b")
	}
	c.ask("b is added", func(n *ha.Node) error { return n.AddMember(t.Context(), c.members[1]) })
	c.works("b")
	c.awaitSum(7, 1)
}

// TestReplaceMember: a member that has lost its directory comes back in its own place, with another one; the one that was lost is of no use
// when it is found again.
func TestReplaceMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	c.startAll()
	c.put(number(7))
	c.awaitSum(7, 1)
	_, token := c.active()
	name := c.others(token.Holder)[0]
	dir := c.config(name).Dir
	var refused *ha.MembershipError
	if err := c.nodes[token.Holder].ReplaceMember(t.Context(), name); !errors.As(err, &refused) {
		t.Errorf("of a member that is well: %v", err)
	}
	c.stop(name)
	found := filepath.Join(c.dir, "found")
	if err := os.Rename(dir, found); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes[token.Holder].ReplaceMember(t.Context(), name); !errors.Is(err, ha.ErrNewcomer) {
		t.Errorf("while nobody waits: %v", err)
	}
	c.joins(name)
	c.start(name)
	c.becomes(name, ha.Joining)
	c.ask("it is replaced", func(n *ha.Node) error { return n.ReplaceMember(t.Context(), name) })
	c.awaitSum(7, 1)
	c.works(name)
	c.put(number(1))
	c.awaitSum(8, 2)
	if err := c.nodes[name].ReplaceMember(t.Context(), name); !errors.As(err, &refused) {
		t.Errorf("once more: %v", err)
	}
	for _, other := range c.others(name) { // it counts: no other is needed with it and one more
		c.stop(other)
		c.put(number(1))
		c.start(other)
		c.works(other)
	}
	c.awaitSum(10, 4)
	c.stop(name)
	if err := os.Rename(dir, filepath.Join(c.dir, "new")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(found, dir); err != nil {
		t.Fatal(err)
	}
	c.start(name)
	old := c.nodes[name]
	eventually(t, "the old one stops", func() bool { return old.Status().State == ha.Failed })
	if err := old.Close(); !errors.Is(err, ha.ErrRemoved) {
		t.Errorf("with the directory that was found again: %v", err)
	}
	delete(c.nodes, name)
	c.put(number(1))
}

// TestHeal: with Heal nobody has to do anything about a directory that is lost, or damaged, and what is damaged is kept.
func TestHeal(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, heals)
	c.startAll()
	c.put(number(7))
	c.awaitSum(7, 1)
	sum, n := uint64(7), 1
	for _, how := range []string{"lost", "damaged", "lost"} {
		_, token := c.active()
		name := c.others(token.Holder)[0]
		dir := c.config(name).Dir
		c.stop(name)
		if how == "lost" {
			c.lose(name)
		} else if err := os.WriteFile(filepath.Join(dir, "identity"), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.revive(name)
		c.works(name)
		c.put(number(1))
		sum, n = sum+1, n+1
		c.awaitSum(sum, n)
		aside, err := filepath.Glob(filepath.Join(dir, "damaged-*"))
		if err != nil || (len(aside) == 1) != (how == "damaged") {
			t.Fatalf("%s: set aside is %q, %v", how, aside, err)
		}
		for _, path := range aside {
			if b, err := os.ReadFile(filepath.Join(path, "identity")); err != nil || string(b) != "rubbish" {
				t.Errorf("what is kept: %q, %v", b, err)
			}
		}
	}
}

// TestHeal_NobodyThere: a damaged directory stays as it is where there is nobody in whose cluster the member has a place.
func TestHeal_NobodyThere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, heals)
	c.startAll()
	c.put(number(7))
	c.closeAll()
	cfg := c.config("a")
	if err := os.WriteFile(filepath.Join(cfg.Dir, "identity"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := refusedOpen(t, cfg); err == nil {
		t.Error("opened")
	}
}

// TestHeal_NotOfALiveMember: a second process that uses the name of a member with an empty directory does not take its place, whatever it is
// started with, and neither does one at its address while another member is on its way.
func TestHeal_NotOfALiveMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, heals)
	c.startAll()
	c.put(number(7))
	_, token := c.active()
	name := c.others(token.Holder)[0]
	cfg := c.config(name)
	cfg.Dir, cfg.Bind = filepath.Join(c.dir, "second"), loopback.Addr(t)
	var second *ha.Node
	eventually(t, "the second one waits", func() (ok bool) {
		var err error
		second, err = ha.Open(cfg)
		return err == nil
	})
	defer second.Close()
	for end := time.Now().Add(5 * cfg.ElectionTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s := second.Status(); s.State != ha.Joining {
			t.Fatalf("the second one is %+v", s)
		}
	}
	if s := c.nodes[name].Status(); s.State == ha.Failed {
		t.Errorf("the first one is %+v", s)
	}
	c.put(number(1))
	c.awaitSum(8, 2)
}

// TestHeal_MajorityOfTheOthers: nobody is replaced while the others alone are no majority.
func TestHeal_MajorityOfTheOthers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4, heals) // 3 of 4 are a majority
	c.startAll()
	c.put(number(7))
	_, token := c.active()
	others := c.others(token.Holder)
	down, lost := others[0], others[1]
	c.stop(lost)
	c.lose(lost)
	c.put(number(1)) // the other three go on
	c.stop(down)
	cfg := c.config(lost)
	c.revive(lost)
	for end := time.Now().Add(5 * cfg.ElectionTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s := c.nodes[lost].Status(); s.State != ha.Joining {
			t.Fatalf("it is %+v", s)
		}
	}
	c.start(down)
	c.works(lost)
	c.awaitSum(8, 2)
}

// brokenDisk is a counter that finds, when it is told to, that the disk is damaged: as a reader of old records would.
type brokenDisk struct {
	counter
	breaks atomic.Bool
}

func (b *brokenDisk) Apply(entries []ha.Entry) error {
	if b.breaks.Load() {
		return &storage.CorruptError{File: "wal/0000000000000003.wal", Offset: 7, Err: errors.New("bad checksum")}
	}
	return b.counter.Apply(entries)
}

// TestHeal_FoundWhileRunning: a member that finds out while it runs that its directory is damaged, gone, or forgotten, stops, and its next start begins
// anew, although that would not find the first and the last.
func TestHeal_FoundWhileRunning(t *testing.T) {
	t.Parallel()
	machines := map[string]*brokenDisk{}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		heals(cfg)
		machines[cfg.Name] = new(brokenDisk)
		cfg.StateMachine = machines[cfg.Name]
	})
	c.startAll()
	records := 1
	c.put(number(7))
	for _, how := range []string{"damaged", "gone", "forgotten"} {
		_, token := c.active()
		name := c.others(token.Holder)[0]
		dir := filepath.Join(c.dir, name)
		c.works(name)
		switch how {
		case "damaged":
			machines[name].breaks.Store(true)
			eventually(t, "another member appends", func() bool {
				n, token := c.active()
				if token.Holder == name {
					c.handOver(token)
					return false
				}
				_, err := n.Append(t.Context(), token, number(1))
				return err == nil
			})
			records++
		case "gone": // at once: it still writes
			if err := os.Rename(dir, filepath.Join(c.dir, "gone")); err != nil {
				t.Fatal(err)
			}
		case "forgotten":
			c.closeAll()
			c.lose(name)
			c.start(name)
			for _, other := range c.others(name) {
				c.start(other)
			}
		}
		n := c.nodes[name]
		eventually(t, how+": it stops", func() bool { return n.Status().State == ha.Failed })
		if err := n.Close(); err == nil {
			t.Errorf("%s: closed without an error", how)
		}
		delete(c.nodes, name)
		c.revive(name)
		c.works(name)
		c.put(number(1))
		records++
		for _, m := range c.members {
			eventually(t, how+": "+m.Name+" has all", func() bool { _, n := machines[m.Name].value(); return n == records })
		}
		if aside, _ := filepath.Glob(filepath.Join(dir, "damaged-*", "condemned")); how != "gone" && len(aside) != 1 {
			t.Errorf("%s: condemned are %q", how, aside)
		}
	}
}
