package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/baton-ha/baton/ha"
)

// A config is what the environment says.
type config struct {
	node ha.Config
	http string // where HTTP is served
}

// configure reads the environment. What it says of the member is checked by Open.
func configure(env func(string) string) (config, error) {
	c := config{
		node: ha.Config{
			Name: env("BATON_NAME"), Cluster: cmp.Or(env("BATON_CLUSTER"), "kv"),
			Dir: cmp.Or(env("BATON_DIR"), env("STATE_DIRECTORY"), "/data"),
			// A volume that was lost or damaged is replaced by the others, without a person.
			Heal: true,
		},
		http: cmp.Or(env("BATON_HTTP"), ":8080"),
	}
	if c.node.Name == "" {
		var err error
		if c.node.Name, err = os.Hostname(); err != nil {
			return c, fmt.Errorf("BATON_NAME is not set: %w", err)
		}
	}
	list := env("BATON_MEMBERS")
	if list == "" {
		return c, errors.New("BATON_MEMBERS is not set: name=host:port,name=host:port,… of all members")
	}
	for m := range strings.SplitSeq(list, ",") {
		name, addr, ok := strings.Cut(strings.TrimSpace(m), "=")
		if !ok {
			return c, fmt.Errorf("BATON_MEMBERS: %q is not name=host:port", m)
		}
		c.node.Members = append(c.node.Members, ha.Member{Name: name, Addr: addr})
		if name != c.node.Name {
			continue
		}
		if err := c.place(addr, env("BATON_ADVERTISE")); err != nil {
			return c, err
		}
	}
	if dir := env("BATON_TLS"); dir != "" {
		c.node.GetTLS = ha.TLSFiles(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"))
	}
	return c, nil
}

// place works out where this member listens, and what it tells the others. A name that is not resolved yet, or leads to an address that the host
// does not have, is no reason not to listen: so it is all of the host's addresses.
func (c *config) place(addr, advertise string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("BATON_MEMBERS: %s: %w", c.node.Name, err)
	}
	if c.node.Bind = ":" + port; net.ParseIP(host) != nil {
		c.node.Bind = addr // several members may share a host
	}
	_, httpPort, err := net.SplitHostPort(c.http)
	if err != nil {
		return fmt.Errorf("BATON_HTTP: %w", err)
	}
	c.node.Advertise = cmp.Or(advertise, "http://"+net.JoinHostPort(host, httpPort))
	return nil
}
