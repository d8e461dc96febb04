package ha_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/hosts"
)

var moveRounds = flag.Int("move.rounds", 0, "how often TestNames_Move moves a member to another address in each way; needs root and ip")

// names are those of the hosts' name server.
type names struct {
	*hosts.Hosts
	path string
	addr map[string]string
}

// newNames starts a name server, on the switch, that all hosts ask. The members' names are those of the hosts, below a domain, as
// in a StatefulSet.
func newNames(h *hosts.Hosts, members ...string) *names {
	h.Helper()
	n := &names{Hosts: h, path: filepath.Join(h.TempDir(), "names"), addr: map[string]string{}}
	for i, m := range members {
		n.addr[m+".kv"] = fmt.Sprintf("10.77.0.%d", i+1)
	}
	n.write()
	h.In("sw", "ip", "addr", "add", "10.77.0.254/24", "dev", "br0")
	for _, m := range members {
		dir := "/etc/netns/" + h.Of(m) // which ip-netns(8) puts over /etc
		if err := os.MkdirAll(dir, 0o755); err != nil {
			h.Fatal(err)
		}
		h.Cleanup(func() { _ = os.RemoveAll(dir); _ = os.Remove("/etc/netns") })
		if err := os.WriteFile(dir+"/resolv.conf", []byte("nameserver 10.77.0.254\noptions timeout:1\n"), 0o644); err != nil {
			h.Fatal(err)
		}
		if err := os.WriteFile(dir+"/nsswitch.conf", []byte("hosts: dns\n"), 0o644); err != nil {
			h.Fatal(err)
		}
	}
	receive(h.T, "the name server", spawn(h.T, child{Names: n.path, Host: h.Of("sw")}).lines)
	return n
}

// write tells the name server, at once.
func (n *names) write() {
	n.Helper()
	text, err := json.Marshal(n.addr)
	if err == nil {
		err = os.WriteFile(n.path+".new", text, 0o644)
	}
	if err == nil {
		err = os.Rename(n.path+".new", n.path)
	}
	if err != nil {
		n.Fatal(err)
	}
}

// move gives a host another address, and returns the old one.
func (n *names) move(name, to string) (old string) {
	n.Helper()
	old = n.addr[name+".kv"]
	n.In(name, "ip", "addr", "del", old+"/24", "dev", "eth0") // first: it would take a second one of its network with it
	n.In(name, "ip", "addr", "add", to+"/24", "dev", "eth0")
	n.addr[name+".kv"] = to
	return old
}

// reuse gives an address that is free to a stranger, who refuses all connections.
func (n *names) reuse(addr string) {
	n.Helper()
	n.In("stranger", "ip", "addr", "add", addr+"/24", "dev", "eth0")
	for host := range n.addr { // who remembers whose it was would find nobody for a while
		n.In(strings.TrimSuffix(host, ".kv"), "ip", "neigh", "flush", "all")
	}
}

// TestNames_Move moves members to other addresses under load: their names lead there a moment later, and whoever asks the old address is refused
// by a stranger who has it now. First the Active and then a standby are killed and come back elsewhere, as pods of a StatefulSet do; then the Active's address changes while it
// runs, and is another's at once. Each is back with its vote, in the same cluster, and nobody is told anything.
//
//	go test ./ha -run TestNames_Move -v -move.rounds=10 -timeout=30m
func TestNames_Move(t *testing.T) {
	if *moveRounds == 0 {
		t.Skip("takes a while, and root: see -move.rounds")
	}
	all := []string{"a", "b", "c"}
	n := newNames(hosts.New(t, append(all, "stranger")...), all...)
	dir := map[string]string{}
	var members []ha.Member
	for _, name := range all {
		members = append(members, ha.Member{Name: name, Addr: name + ".kv:7400"})
		dir[name] = t.TempDir()
	}
	w := newWitness(t)
	start := func(name string) {
		delete(w.settled, name)
		w.listen(name, spawn(t, child{
			Name: name, Dir: dir[name], Cluster: "names", Bind: ":7400", Members: members, Host: n.Of(name),
			Writers: 1, Pace: time.Millisecond, CatchUp: w.last, Heal: true,
		}))
	}
	for _, name := range all {
		start(name)
	}
	w.until("the first epoch is under load", func() bool { return len(w.settled) == len(all) && w.acks >= 200 })
	wait := func(d time.Duration) {
		over := time.Now().Add(d)
		w.until("a moment", func() bool { return time.Now().After(over) })
	}
	next := 20
	for _, way := range []string{"the Active comes back elsewhere", "a standby comes back elsewhere", "the Active's address changes"} {
		var took []time.Duration
		for range *moveRounds {
			victim, killed := w.active, way != "the Active's address changes"
			if way == "a standby comes back elsewhere" {
				victim = all[(slices.Index(all, w.active)+1)%len(all)]
			}
			if killed {
				w.kill(victim)
			}
			old := n.move(victim, fmt.Sprintf("10.77.0.%d", next))
			next++
			if n.reuse(old); killed {
				start(victim)
			}
			wait(300 * time.Millisecond)
			at := time.Now()
			n.write() // only now the others can find it
			w.acks = 0
			w.until("there is load", func() bool { return w.acks >= 200 })
			// It is back when the cluster goes on with it and without another one.
			other := all[slices.IndexFunc(all, func(name string) bool { return name != victim && name != w.active })]
			w.until("it has its vote again", func() bool { return !killed || w.settled[victim] })
			w.kill(other)
			w.acks = 0
			w.until("the others go on with it", func() bool { return w.acks >= 200 })
			took = append(took, time.Since(at))
			start(other)
			w.until("all are back", func() bool { return w.settled[other] })
			wait(time.Second)
		}
		slices.Sort(took)
		t.Logf("%s: %v (median) from the name's change until it counts, %v at most, of %d", way,
			took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
	}
	w.kill(all...)
	w.noOverlap()
}
