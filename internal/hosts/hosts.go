// Package hosts makes hosts for tests: network namespaces, connected by a switch, any of which can be cut off in each direction. It needs Linux,
// root, and the commands ip and nft.
package hosts

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// Hosts are some, which have addresses of their own. They go away with the test.
type Hosts struct {
	*testing.T
	prefix string
	names  []string
}

// New makes hosts of these names.
func New(t *testing.T, names ...string) *Hosts {
	h := &Hosts{t, fmt.Sprintf("bt%x", rand.Uint32()&0xffff), names}
	t.Cleanup(func() {
		for _, name := range append(names[:len(names):len(names)], "sw") {
			_ = exec.Command("ip", "netns", "del", h.Of(name)).Run() // with its devices
		}
	})
	h.run("ip", "netns", "add", h.Of("sw"))
	h.In("sw", "ip", "link", "add", "br0", "type", "bridge")
	h.In("sw", "ip", "link", "set", "br0", "up")
	for i, name := range names {
		port := fmt.Sprintf("port%d", i)
		h.run("ip", "netns", "add", h.Of(name))
		h.In("sw", "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.Of(name))
		h.In("sw", "ip", "link", "set", port, "master", "br0", "up")
		h.In(name, "ip", "addr", "add", h.IP(name)+"/24", "dev", "eth0")
		h.In(name, "ip", "link", "set", "eth0", "up")
		h.In(name, "ip", "link", "set", "lo", "up")
	}
	return h
}

// Of is the network namespace of a host.
func (h *Hosts) Of(name string) string { return h.prefix + name }

// IP is the address of a host.
func (h *Hosts) IP(name string) string {
	for i, n := range h.names {
		if n == name {
			return fmt.Sprintf("10.77.0.%d", i+1)
		}
	}
	h.Fatalf("no host is named %s", name)
	return ""
}

func (h *Hosts) run(args ...string) {
	h.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		h.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// In runs a command on a host, or on the switch, "sw".
func (h *Hosts) In(name string, args ...string) {
	h.Helper()
	h.run(append([]string{"ip", "netns", "exec", h.Of(name)}, args...)...)
}

// Cut drops what a host says, what it would hear, or both. Everything at once.
func (h *Hosts) Cut(name string, out, in bool) {
	h.Helper()
	rules := "add table inet cut\n"
	for hook, on := range map[string]bool{"output": out, "input": in} {
		if on {
			rules += fmt.Sprintf("add chain inet cut %s { type filter hook %s priority 0; policy drop; }\n", hook, hook)
		}
	}
	h.In(name, "nft", rules)
}

// Heal takes a cut back.
func (h *Hosts) Heal(name string) {
	h.Helper()
	h.In(name, "nft", "delete table inet cut")
}
