package histories

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/hosts"
	"github.com/baton-ha/baton/internal/loopback"
)

// Faults are what happens to the processes of one history, by its seed: three that stay, and now and then a fourth.
type faults struct {
	*court
	seed    uint64
	r       *rand.Rand
	dir     string
	hosts   *hosts.Hosts // nil: all share the parent's
	members []ha.Member  // those that stay
	running map[string]*process
	guest   ha.Member // the fourth, while there is one
	guests  int
	spawned int
	made    map[string]int // faults, by kind
}

func newFaults(c *court, seed uint64) *faults {
	f := &faults{court: c, seed: seed, r: rand.New(rand.NewPCG(seed, 0)), dir: c.TempDir(), running: map[string]*process{}, made: map[string]int{}}
	names := []string{"a", "b", "c"}
	if *cuts {
		f.hosts = hosts.New(c.T, append(names, "guest")...)
	}
	for _, name := range names {
		f.members = append(f.members, ha.Member{Name: name, Addr: f.addr(name)})
	}
	return f
}

func (f *faults) addr(host string) string {
	if f.hosts != nil {
		return f.hosts.IP(host) + ":7400"
	}
	return loopback.Addr(f.T)
}

// begin starts the members.
func (f *faults) begin() {
	for _, m := range f.members {
		f.start(m, m.Name)
	}
	time.Sleep(time.Second)
}

// start starts a process on a host.
func (f *faults) start(m ha.Member, host string) {
	f.spawned++
	what := member{
		Name: m.Name, Dir: filepath.Join(f.dir, m.Name), Members: f.members, Workers: 3,
		Seed: f.seed<<20 | uint64(f.spawned), Handler: f.handler(),
	}
	if m.Name == f.guest.Name {
		what.Join, what.Members = true, append(slices.Clone(f.members), m)
	}
	if f.hosts != nil {
		what.Host = f.hosts.Of(host)
	}
	f.running[m.Name] = f.spawn(what, f.spawned)
}

// handler reports whether calls go through a handler.
func (f *faults) handler() bool { return f.seed%2 == 0 }

// tell gives one of those that stay an order.
func (f *faults) tell(order string) { f.order(f.members[f.r.IntN(len(f.members))].Name, order) }

func (f *faults) order(name, order string) { _, _ = io.WriteString(f.running[name].stdin, order+"\n") }

// expire lets the session of a member expire while calls of it are under way that it must repeat: they get no answer, since the Active is stopped before, or
// its answers are lost; then the caller is stopped, and the Active killed, and others use more sessions than are kept.
func (f *faults) expire() {
	i := f.isActive()
	if i < 0 {
		return
	}
	a, caller, other := f.members[i], f.members[(i+1)%3], f.members[(i+2)%3]
	if f.hosts != nil && f.r.IntN(2) == 0 {
		f.hosts.Cut(caller.Name, false, true)
		defer f.hosts.Heal(caller.Name)
	} else {
		f.signal(a.Name, syscall.SIGSTOP)
	}
	f.pause(50, 150) // below an election timeout
	f.signal(caller.Name, syscall.SIGSTOP)
	defer f.signal(caller.Name, syscall.SIGCONT)
	f.running[a.Name].kill()
	f.start(a, a.Name)
	floods := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.noted["flood"]
	}
	before := floods()
	for tries := 0; tries < 7 && floods() == before; tries++ {
		f.pause(400, 500) // somebody must be Active first
		f.order(other.Name, "flood")
	}
}

// isActive is which of those that stay has become Active last, -1 if it does not run any more.
func (f *faults) isActive() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.IndexFunc(f.members, func(m ha.Member) bool { return f.running[m.Name].name == f.active })
}

// deafen lets the Active be heard and hear nothing, for so long that it comes back to the calls that it has sent out in a snapshot.
func (f *faults) deafen() {
	if i := f.isActive(); i >= 0 {
		f.hosts.Cut(f.members[i].Name, false, true)
		f.pause(1500, 2500)
		f.hosts.Heal(f.members[i].Name)
	}
}

func (f *faults) signal(name string, s syscall.Signal) { _ = f.running[name].cmd.Process.Signal(s) }

// pause waits for some time below a bound.
func (f *faults) pause(least, most int) {
	time.Sleep(time.Duration(least+f.r.IntN(most-least)) * time.Millisecond)
}

// one lets something happen to one of those that stay, or to the list of members.
func (f *faults) one() {
	f.pause(200, 700)
	m := f.members[f.r.IntN(len(f.members))]
	kinds := []string{"kill", "kill", "stop", "stop", "change", "guest"}
	if f.hosts != nil {
		kinds = append(kinds, "cut", "cut", "deafen")
	}
	if !f.handler() { // of which no more than so many run: a flood would be refused
		kinds = append(kinds, "expire", "expire")
	}
	kind := kinds[f.r.IntN(len(kinds))]
	f.made[kind]++
	switch kind {
	case "kill":
		f.running[m.Name].kill()
		f.pause(0, 500)
		f.start(m, m.Name)
	case "stop":
		f.stop(m.Name, 0, 1500)
	case "expire":
		f.expire()
	case "cut":
		shape := 1 + f.r.IntN(3)
		f.hosts.Cut(m.Name, shape&1 != 0, shape&2 != 0)
		f.pause(0, 1500)
		f.hosts.Heal(m.Name)
	case "deafen":
		f.deafen()
	case "change":
		f.tell("demote " + m.Name)
		f.pause(100, 600)
		f.tell("promote " + m.Name)
	case "guest":
		f.comeOrGo()
	}
}

// stop stops a process for some time.
func (f *faults) stop(name string, least, most int) {
	f.signal(name, syscall.SIGSTOP)
	f.pause(least, most)
	f.signal(name, syscall.SIGCONT)
}

// comeOrGo has a fourth member added, or removed and killed.
func (f *faults) comeOrGo() {
	if f.guest.Name != "" {
		f.tell("remove " + f.guest.Name)
		f.pause(100, 600)
		f.running[f.guest.Name].kill()
		delete(f.running, f.guest.Name)
		f.guest = ha.Member{}
		return
	}
	f.guests++
	f.guest = ha.Member{Name: fmt.Sprintf("guest%d", f.guests), Addr: f.addr("guest")}
	f.start(f.guest, "guest")
	f.pause(100, 300)
	f.tell(fmt.Sprintf("add %s %s", f.guest.Name, f.guest.Addr))
}

// close kills all processes.
func (f *faults) close() {
	for name, p := range maps.Clone(f.running) {
		p.kill()
		delete(f.running, name)
	}
}
