package ha_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// stuckMachine does not return from Apply before it is let.
type stuckMachine struct {
	counter
	stuck   atomic.Bool
	release chan struct{}
}

func (s *stuckMachine) Apply(entries []ha.Entry) error {
	if s.stuck.Load() {
		<-s.release
	}
	return s.counter.Apply(entries)
}

// TestT11_Observers: observers one of which takes nothing while it lives, and the other of which is dead, hold up no append, change no
// leader, and keep the log from being cut no longer than a bound. When they come back they catch up.
func TestT11_Observers(t *testing.T) {
	t.Parallel()
	machine := &stuckMachine{release: make(chan struct{})}
	stuck := ""
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.CacheBytes, cfg.CheckpointBytes, cfg.RetainBytes = 16<<10, 32<<10, 32<<10
		if cfg.Name == stuck {
			cfg.StateMachine = machine
		}
	})
	c.startAll()
	_, token := c.active()
	c.fill(1, 10)
	ctx := t.Context()
	for _, name := range []string{"d", "e"} {
		m := ha.Member{Name: name, Addr: loopback.Addr(t), Kind: ha.KindObserver}
		stuck = "d"
		cfg := c.config(name)
		cfg.Members, cfg.Join = append(slices.Clone(cfg.Members), m), true
		if cfg.StateMachine == nil {
			c.sums[name] = new(counter)
			cfg.StateMachine = c.sums[name]
		}
		n, err := ha.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.nodes[name] = n
		if err := c.nodes[token.Holder].AddMember(ctx, m); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" follows", func() bool { s := n.Status(); return s.State == ha.Observer && s.Applied >= 10 })
	}
	dead := c.config("e")
	dead.Members, dead.Join = append(slices.Clone(dead.Members), ha.Member{Name: "e", Addr: c.nodes["e"].Members()[0].Addr}), true
	for _, m := range c.nodes["e"].Members() {
		if m.Name == "e" {
			dead.Members[len(dead.Members)-1].Addr = m.Addr
		}
	}
	c.shut("e")
	machine.stuck.Store(true)

	began, last := time.Now(), uint64(10)
	more := func() { c.fill(last+1, last+100); last += 100 }
	for more(); holds(c.nodes[token.Holder], 11); more() {
		if last > 5000 {
			t.Fatal("the log is kept for observers")
		}
	}
	took := time.Since(began)
	if each := took / time.Duration(last-10); each > time.Second { // they would take an election timeout and more
		t.Errorf("an append took %v on average", each)
	}
	if _, now := c.active(); now != token {
		t.Logf("the role has moved from %v to %v", token, now)
	}

	machine.stuck.Store(false)
	close(machine.release)
	c.sums["e"] = new(counter)
	dead.StateMachine = c.sums["e"]
	n, err := ha.Open(dead)
	if err != nil {
		t.Fatal(err)
	}
	c.nodes["e"] = n
	eventually(t, "both have everything", func() bool {
		_, d := machine.value()
		_, e := c.sums["e"].value()
		return d == int(last) && e == int(last)
	})
}
