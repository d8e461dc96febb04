package session

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckAddr reports what is wrong with a host:port, and returns it in a form in which two that are written differently
// compare equal: numbers for the names of ports, host names in small letters, addresses as short as can be. It resolves
// no names. bind says that it is listened on: then the host may be empty or unspecified, and the port 0, for any that is free.
func CheckAddr(addr string, bind bool) (canonical string, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%q is not host:port: %w", addr, err)
	}
	if host, err = checkHost(host, bind); err != nil {
		return "", fmt.Errorf("%q %w", addr, err)
	}
	if port == "" || strings.ContainsAny(port[:1], "+-") || strings.ContainsFunc(port, unicode.IsSpace) { // some resolvers skip spaces
		return "", fmt.Errorf("%q has no port", addr)
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return "", fmt.Errorf("%q: %w", addr, err)
	}
	if n == 0 && !bind {
		return "", fmt.Errorf("%q has port 0, which nobody can reach", addr)
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}

func checkHost(host string, bind bool) (string, error) {
	if host == "" {
		if bind {
			return "", nil
		}
		return "", fmt.Errorf("has no host")
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return checkName(host)
	}
	ip = ip.Unmap()
	switch {
	case ip.IsMulticast():
		return "", fmt.Errorf("is a multicast address, and members are reached one by one")
	case ip.IsUnspecified() && !bind:
		return "", fmt.Errorf("is no member's address: it means all of a host's; set it in Bind, and here what the others dial")
	case ip.Is4() && ip.As4()[0] >= 240 || ip.Is4() && ip.As4()[0] == 0 && !ip.IsUnspecified():
		return "", fmt.Errorf("is an address that no host has")
	case ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "":
		return "", fmt.Errorf("is a link-local address without its zone, as in [fe80::1%%eth0]")
	}
	return ip.String(), nil
}

// checkName accepts what a resolver does: labels of ASCII letters, digits, '-' and '_'. What ends in a number was meant as an
// address.
func checkName(host string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return "", fmt.Errorf("has no valid host name")
		}
		for _, c := range l {
			if c >= utf8.RuneSelf {
				return "", fmt.Errorf("has %q in its host name, which resolvers take as xn--…", c)
			}
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", fmt.Errorf("has %q in its host name", c)
			}
		}
	}
	if len(name) > 253 {
		return "", fmt.Errorf("has a host name of %d bytes", len(name))
	}
	last := labels[len(labels)-1]
	hex, isHex := strings.CutPrefix(last, "0x") // an address to the resolver of C, and a name to Go's
	if strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == "" {
		return "", fmt.Errorf("has a host that is neither an address nor a name")
	}
	return name, nil
}
