package session

import (
	"strings"
	"testing"
)

func TestAddressesThatCannotBeMeant(t *testing.T) {
	for _, c := range []struct {
		addr string
		bind bool
		want string // the canonical form, or a part of the error
	}{
		{"127.0.0.1:7000", false, "127.0.0.1:7000"},
		{"[::1]:7000", false, "[::1]:7000"},
		{"[0:0::1]:07000", false, "[::1]:7000"},
		{"[::ffff:10.0.0.1]:7000", false, "10.0.0.1:7000"},
		{"[fe80::1%eth0]:7000", false, "[fe80::1%eth0]:7000"},
		{"Node-1.Example.COM.:http", false, "node-1.example.com:80"},
		{"my_pod:7000", false, "my_pod:7000"},
		{":7000", true, ":7000"},
		{"0.0.0.0:7000", true, "0.0.0.0:7000"},
		{"[::]:0", true, "[::]:0"},
		{":7000", false, "no host"},
		{"0.0.0.0:7000", false, "all of a host's"},
		{"[::]:7000", false, "all of a host's"},
		{"[::ffff:0.0.0.0]:7000", false, "all of a host's"},
		{"224.0.0.1:7000", false, "multicast"},
		{"[ff02::1]:7000", true, "multicast"},
		{"[ff02::1%eth0]:7000", false, "multicast"},
		{"255.255.255.255:7000", false, "no host has"},
		{"240.0.0.1:7000", true, "no host has"},
		{"0.1.2.3:7000", false, "no host has"},
		{"[fe80::1]:7000", false, "zone"},
		{"10.0.0.1:0", false, "port 0"},
		{"10.0.0.1:", false, "no port"},
		{"10.0.0.1:-1", false, "no port"},
		{"10.0.0.1:+80", false, "no port"},
		{"10.0.0.1:65536", false, "65536"},
		{"10.0.0.1:nosuchport", false, "nosuchport"},
		{"10.0.0.1", false, "not host:port"},
		{"::1:7000", false, "not host:port"},
		{"http://10.0.0.1:7000", false, "not host:port"},
		{"10.0.0.1 :7000", false, "' '"},
		{"10.0.0.256:7000", false, "neither"},
		{"10.0.0.01:7000", false, "neither"},
		{"a..b:7000", false, "host name"},
		{"-a:7000", false, "host name"},
		{"a%b:7000", false, "'%'"},
		{"bücher.example:7000", false, "'ü' in its host name, which resolvers take as xn--"},
		{"0x7f000001:7000", false, "neither"},
		{"10.0.0.0x1:7000", false, "neither"},
		{"0xyz:7000", false, "0xyz:7000"},
		{"10.0.0.1: 7000", false, "no port"},
		{strings.Repeat("a", 64) + ":7000", false, "host name"},
		{strings.Repeat("abc.", 80) + "a:7000", false, "bytes"},
	} {
		got, err := CheckAddr(c.addr, c.bind)
		if err != nil {
			got = err.Error()
			if !strings.Contains(got, strings.TrimSuffix(strings.Split(c.addr, ":")[0], ".")) {
				t.Errorf("%s: the error does not name it: %v", c.addr, err)
			}
		}
		if err == nil && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%s (bind %v): got %q, want %q", c.addr, c.bind, got, c.want)
		}
	}
}
