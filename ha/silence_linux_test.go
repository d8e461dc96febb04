package ha_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

var cutRounds = flag.Int("cut.rounds", 0, "how often TestT4_Silence cuts the Active off in each way; needs root, ip and nft")

// hosts gives each member a network namespace of its own, and a switch that connects them.
type hosts struct {
	*testing.T
	prefix string
}

func newHosts(t *testing.T, names ...string) *hosts {
	h := &hosts{t, fmt.Sprintf("bt%x", rand.Uint32()&0xffff)}
	t.Cleanup(func() {
		for _, name := range append(names, "sw") {
			_ = exec.Command("ip", "netns", "del", h.of(name)).Run() // with its devices
		}
	})
	h.run("ip", "netns", "add", h.of("sw"))
	h.in("sw", "ip", "link", "add", "br0", "type", "bridge")
	h.in("sw", "ip", "link", "set", "br0", "up")
	for i, name := range names {
		port := fmt.Sprintf("port%d", i)
		h.run("ip", "netns", "add", h.of(name))
		h.in("sw", "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.of(name))
		h.in("sw", "ip", "link", "set", port, "master", "br0", "up")
		h.in(name, "ip", "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "eth0")
		h.in(name, "ip", "link", "set", "eth0", "up")
		h.in(name, "ip", "link", "set", "lo", "up")
	}
	return h
}

func (h *hosts) of(name string) string { return h.prefix + name }

func (h *hosts) run(args ...string) {
	h.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		h.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (h *hosts) in(name string, args ...string) {
	h.Helper()
	h.run(append([]string{"ip", "netns", "exec", h.of(name)}, args...)...)
}

// cut drops what a host says, what it would hear, or both. Everything at once.
func (h *hosts) cut(name string, out, in bool) {
	h.Helper()
	rules := "add table inet cut\n"
	for hook, on := range map[string]bool{"output": out, "input": in} {
		if on {
			rules += fmt.Sprintf("add chain inet cut %s { type filter hook %s priority 0; policy drop; }\n", hook, hook)
		}
	}
	h.in(name, "nft", rules)
}

func (h *hosts) heal(name string) {
	h.Helper()
	h.in(name, "nft", "delete table inet cut")
}

// TestT4_Silence cuts the Active's host off, of three, in each direction and in both, at default settings under load, and measures for
// how long nobody acknowledged an append. At no time are two active. For the figures:
//
//	go test ./ha -run TestT4_Silence -v -cut.rounds=50 -timeout=30m
func TestT4_Silence(t *testing.T) {
	if *cutRounds == 0 {
		t.Skip("takes a while, and root: see -cut.rounds")
	}
	names := []string{"a", "b", "c"}
	h := newHosts(t, names...)
	var members []ha.Member
	for i, name := range names {
		members = append(members, ha.Member{Name: name, Addr: fmt.Sprintf("10.77.0.%d:7400", i+1)})
	}
	w := newWitness(t)
	for _, name := range names {
		w.listen(name, spawn(t, child{
			Name: name, Dir: t.TempDir(), Cluster: "silence", Members: members, Host: h.of(name), Writers: 1, Pace: time.Millisecond,
		}))
	}
	for _, shape := range []struct {
		name    string
		out, in bool
	}{{"both ways", true, true}, {"out", true, false}, {"in", false, true}} {
		var gaps []time.Duration
		for range *cutRounds {
			w.acks = 0
			w.until("a load", func() bool { return w.acks >= 200 })
			at := time.Now().Add(rand.N(200 * time.Millisecond))
			w.until("a moment", func() bool { return time.Now().After(at) })
			old, victim := w.epoch, w.active
			h.cut(victim, shape.out, shape.in)
			w.until("the next active acknowledges", func() bool { return w.epoch > old && w.acks > 0 })
			gaps = append(gaps, w.gap())
			h.heal(victim)
			at = time.Now().Add(1500 * time.Millisecond)
			w.until("everybody is back", func() bool { return time.Now().After(at) })
		}
		slices.Sort(gaps)
		t.Logf("cut %s: nobody acknowledged for %v (median), %v at most, of %d", shape.name,
			gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond), len(gaps))
	}
	for _, name := range names {
		w.kill(name)
	}
	w.noOverlap()
}
