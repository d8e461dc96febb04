package ha_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/internal/testseed"
)

var operatorRounds = flag.Int("operators.rounds", 1, "rounds of TestT19_Operators")

// operators do to a cluster whatever operators do, two at a time. They keep a majority of the directories.
type operators struct {
	*cluster
	world sync.RWMutex // held shared by each deed, and alone by who takes a directory away
	mu    sync.Mutex   // guards what follows, and the cluster's maps
	names []string     // of processes
	at    map[string]ha.Member
	joins map[string]bool // started with Join
	heals map[string]bool
	next  rune // the name of the next process
	wiped bool // a directory was taken away in this round
}

// run starts a process. One that cannot be started is started again later.
func (o *operators) run(name string) {
	cfg := o.config(name)
	if o.at[name].Kind != ha.KindArbiter {
		o.sums[name] = new(counter)
		cfg.StateMachine = o.sums[name]
	}
	n, err := ha.Open(cfg)
	if err != nil {
		o.t.Logf("open %s: %v", name, err)
		return
	}
	o.nodes[name] = n
}

// end closes a process, and reports whether it ran.
func (o *operators) end(name string) bool {
	o.mu.Lock()
	n := o.nodes[name]
	delete(o.nodes, name)
	o.mu.Unlock()
	if n != nil {
		_ = n.Close()
	}
	return n != nil
}

// spare reports whether the directory of a member may be lost.
func (o *operators) spare(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wiped || o.nodes[name] == nil {
		return false
	}
	voters, left := 0, 0
	for _, n := range o.nodes {
		if n.Status().State != ha.Active {
			continue
		}
		for _, m := range n.Members() {
			if m.Kind != ha.KindObserver {
				voters++
				if m.Name != name && m.Liveness == ha.Alive && o.nodes[m.Name] != nil {
					left++
				}
			}
		}
	}
	o.wiped = left > voters/2
	return o.wiped
}

// wipe takes the directory of a process away, and starts it again at another address, perhaps.
func (o *operators) wipe(rnd *rand.Rand, name string) bool {
	o.world.RUnlock()
	o.world.Lock()
	ok := o.spare(name) && o.end(name)
	if ok {
		if err := os.RemoveAll(filepath.Join(o.dir, name)); err != nil {
			o.t.Error(err)
		}
	}
	o.world.Unlock()
	o.world.RLock()
	if !ok {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.joins[name] = true
	if rnd.IntN(2) == 0 {
		o.run(name)
	}
	return true
}

// do does one thing, whose outcome may be anything.
func (o *operators) do(rnd *rand.Rand) {
	o.world.RLock()
	defer o.world.RUnlock()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Duration(rnd.IntN(3000))*time.Millisecond)
	defer cancel()
	o.mu.Lock()
	name := o.names[rnd.IntN(len(o.names))]
	own, some := o.nodes[name], (*ha.Node)(nil)
	for _, other := range o.names {
		if n := o.nodes[other]; n != nil && (some == nil || rnd.IntN(2) == 0) {
			some = n
		}
	}
	o.mu.Unlock()
	var what string
	var err error
	switch deed := rnd.IntN(16); {
	case some == nil:
		return
	case deed < 2:
		o.mu.Lock()
		if len(o.names) > 6 {
			o.mu.Unlock()
			return
		}
		name = string(o.next)
		o.next++
		m := ha.Member{Name: name, Addr: loopback.Addr(o.t), Kind: ha.Kind(rnd.IntN(3))}
		o.names, o.at[name], o.joins[name], o.heals[name] = append(o.names, name), m, true, rnd.IntN(2) == 0
		o.run(name)
		o.mu.Unlock()
		what, err = "add as "+m.Kind.String(), some.AddMember(ctx, m)
	case deed == 2:
		what, err = "remove", some.RemoveMember(ctx, name)
	case deed == 3 && o.wipe(rnd, name):
		what, err = "replace", some.ReplaceMember(ctx, name)
	case deed == 4:
		what, err = "promote", some.Promote(ctx, name)
	case deed == 5:
		what, err = "demote", some.Demote(ctx, name)
	case deed == 6:
		what, err = "set the priority of", some.SetPriority(ctx, name, rnd.IntN(3))
	case deed == 7:
		o.mu.Lock()
		if own == nil && o.nodes[name] == nil {
			o.run(name)
		}
		o.mu.Unlock()
	case own == nil:
	case deed < 10:
		what, err = "change the role of", own.Become(ctx, []ha.State{ha.Active, ha.Standby}[rnd.IntN(2)])
	case deed == 10:
		what, err = "keep away", own.StayAway(ctx, "test")
	case deed == 11:
		own.ComeBack()
	case deed < 15:
		what = "close"
		o.end(name)
	case deed == 15 && o.end(name):
		what = "move"
		o.mu.Lock()
		m := o.at[name]
		m.Addr = loopback.Addr(o.t)
		o.at[name] = m
		if o.nodes[name] == nil {
			o.run(name)
		}
		o.mu.Unlock()
	}
	if what != "" {
		o.t.Log(what, name, err)
	}
}

// settled reports whether all is as it should be once nothing is done any more, and how it is. What an operator has to do himself is done: to replace a
// member whose directory is lost.
func (o *operators) settled(patient bool) (ok bool, how string) {
	var b strings.Builder
	var active *ha.Node
	for _, name := range o.names {
		n := o.nodes[name]
		if n == nil {
			o.run(name)
			fmt.Fprintf(&b, "%s is down\n", name)
			continue
		}
		s := n.Status()
		fmt.Fprintf(&b, "%s %v: %v, obstacles %v, problems %v\n", name, s.State, s.Err, s.Obstacles, s.Problems)
		if s.State == ha.Active {
			active = n
		}
	}
	if active == nil {
		return false, b.String()
	}
	ok = true
	list := active.Members()
	for _, m := range list {
		fmt.Fprintf(&b, "listed: %s at %s, %v, joining: %v\n", m.Name, m.Addr, m.Kind, m.Joining)
	}
	for _, name := range o.names {
		n := o.nodes[name]
		i := slices.IndexFunc(list, func(m ha.MemberStatus) bool { return m.Name == name })
		switch {
		case n == nil:
			ok = false
		case i < 0:
			s := n.Status() // it was never added, or removed
			ok = ok && (s.State == ha.Joining || errors.Is(s.Err, ha.ErrRemoved))
		case n.Status().State == ha.Joining && !list[i].Joining && patient:
			ctx, cancel := context.WithTimeout(o.t.Context(), time.Second)
			o.t.Log("move and replace", name, active.ChangeAddr(ctx, name, o.at[name].Addr), active.ReplaceMember(ctx, name))
			cancel()
			ok = false
		default:
			ok = ok && !list[i].Joining && list[i].Addr == o.at[name].Addr &&
				slices.Contains([]ha.State{ha.Active, ha.Standby, ha.Observer, ha.Arbiter}, n.Status().State)
		}
	}
	return ok, b.String()
}

// TestT19_Operators: whatever operators do at random, on whichever members, while these are closed, moved and lose their directories: once they stop, and all
// processes run, all that is listed is there and works, and who is not listed knows it, or waits to be added.
func TestT19_Operators(t *testing.T) {
	t.Parallel()
	rnd := testseed.Rand(t)
	o := &operators{cluster: newCluster(t, 3, nil), at: map[string]ha.Member{}, joins: map[string]bool{}, heals: map[string]bool{}, next: 'd'}
	for _, m := range o.members {
		o.names, o.at[m.Name] = append(o.names, m.Name), m
	}
	o.edit = func(cfg *ha.Config) {
		cfg.Heartbeat, cfg.ElectionTimeout, cfg.DrainTimeout = 20*time.Millisecond, 300*time.Millisecond, 2*time.Second
		cfg.CheckpointBytes, cfg.RetainBytes = 4096, 4096
		cfg.Join, cfg.Heal = o.joins[cfg.Name], o.heals[cfg.Name]
		cfg.Members = nil
		for _, name := range o.names { // where they are now, as whoever writes configurations knows
			m := o.at[name]
			if name != cfg.Name {
				m.Kind = ha.KindVoter // what it is stands in the log
			}
			cfg.Members = append(cfg.Members, m)
		}
	}
	for _, name := range o.names {
		o.run(name)
	}
	o.put(number(1))
	for range *operatorRounds {
		o.wiped = false
		var both sync.WaitGroup
		for range 2 {
			own := rand.New(rand.NewPCG(rnd.Uint64(), 0))
			both.Go(func() {
				for range 5 {
					o.do(own)
				}
			})
		}
		both.Wait()
		for _, n := range o.nodes {
			n.ComeBack()
		}
		var how string
		began := time.Now()
		for ok := false; !ok; {
			if ok, how = o.settled(time.Since(began) > time.Second); !ok && time.Since(began) > patience {
				t.Fatalf("it does not settle:\n%s", how)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for _, name := range slices.Clone(o.names) {
			if s := o.nodes[name].Status().State; s == ha.Failed || s == ha.Joining {
				o.end(name)
				o.names = slices.DeleteFunc(o.names, func(other string) bool { return other == name })
				if err := os.RemoveAll(filepath.Join(o.dir, name)); err != nil {
					t.Error(err)
				}
			}
		}
		o.put(number(1))
		t.Logf("settled in %v\n%s", time.Since(began), how)
	}
}
