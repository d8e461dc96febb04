//go:build linux

package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/onfence"
)

// Config is what an agent is. Read makes it of YAML; the keys are the fields' names in lower case with '_'.
type Config struct {
	// Name, Dir, Cluster, Members, Bind, Advertise, Heartbeat and ElectionTimeout are those of [ha.Config].
	Name            string   `yaml:"name"`
	Dir             string   `yaml:"dir"`
	Cluster         string   `yaml:"cluster"`
	Members         []Member `yaml:"members"`
	Bind            string   `yaml:"bind"`
	Advertise       string   `yaml:"advertise"`
	Heartbeat       Duration `yaml:"heartbeat"`
	ElectionTimeout Duration `yaml:"election_timeout"`
	// TLS names files in PEM, as [ha.TLSFiles] wants them. All three or none.
	TLS struct {
		Certificate string `yaml:"certificate"`
		Key         string `yaml:"key"`
		Authorities string `yaml:"authorities"`
	} `yaml:"tls"`

	// Run is the program and its arguments: it runs as long as the role lasts, and its end is the end of the role.
	Run []string `yaml:"run"`
	// Start and Stop are commands that begin and end a service that somebody else runs (systemctl start …). Stop is run whenever Start was
	// begun, also when the agent has died, and then when another member may already have begun: only of what Run starts it is sure that
	// it is dead before. They must bear being run twice. Run and Start may both be there.
	Start []string `yaml:"start"`
	Stop  []string `yaml:"stop"`
	// Promote is run first when this member becomes Active, Demote last when it ends to be. Announce is run when the service is there and
	// has its addresses (DNS), Withdraw first when it goes.
	Promote  []string `yaml:"promote"`
	Demote   []string `yaml:"demote"`
	Announce []string `yaml:"announce"`
	Withdraw []string `yaml:"withdraw"`
	// Addresses are the Active's: added when the service is there, and told to the neighbours (gratuitous ARP).
	Addresses []Address `yaml:"addresses"`
	// Fence is run on the member that is about to become Active, to keep the previous Active out (a power switch): see [onfence.Command] for
	// its environment. FenceTimeout (0: 10 s) is how long it may take. If it fails nobody becomes Active until it succeeds; with
	// FenceBestEffort that is only said.
	Fence           []string `yaml:"fence"`
	FenceTimeout    Duration `yaml:"fence_timeout"`
	FenceBestEffort bool     `yaml:"fence_best_effort"`
	// Preempt, if not 0, lets an Active hand over to a member of higher priority that has been well for so long ([ha.Config.Preempt]).
	Preempt Duration `yaml:"preempt"`
	// Check is asked on the Active: until it succeeds for the first time within StartTimeout the service is not there; when it has failed Strikes times in
	// a row the role is given up.
	Check Check `yaml:"check"`
	// Health is asked on every member, as [ha.Config.Health]: one that is not well does not become Active.
	Health Check `yaml:"health"`

	// State is replicated through the log.
	State State `yaml:"state"`

	// StopSignal is what the program is asked to end with. "": TERM. What still runs after StopTimeout (0: 10 s) is killed.
	StopSignal  string   `yaml:"stop_signal"`
	StopTimeout Duration `yaml:"stop_timeout"`
	// StartTimeout is how long the program may take until Check succeeds. 0: 1 minute.
	StartTimeout Duration `yaml:"start_timeout"`
	// CommandTimeout is how long each of the commands may take. 0: 10 s.
	CommandTimeout Duration `yaml:"command_timeout"`
	// CoolDown is how long this member stays away from the role after its program has failed. 0: 10 s.
	CoolDown Duration `yaml:"cool_down"`
}

// A Member is one of [ha.Config.Members].
type Member struct {
	Name     string `yaml:"name"`
	Addr     string `yaml:"addr"`
	Priority int    `yaml:"priority"`
}

// An Address is one of IPv4 with the length of its prefix ("10.0.0.100/24"), on a network device.
type Address struct {
	IP     netip.Prefix `yaml:"ip"`
	Device string       `yaml:"device"`
}

// A Duration is written as "500ms", "10s", "1m".
type Duration time.Duration

// UnmarshalYAML implements [yaml.Unmarshaler].
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*d = Duration(v)
	return nil
}

// Read reads a configuration. Keys that do not exist are errors. It is not validated.
func Read(b []byte) (c Config, err error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return c, nil
}

// ReadFile is [Read] of a file.
func ReadFile(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	c, err := Read(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("agent: "+format, args...)) }
	if len(c.Run) == 0 && len(c.Start) == 0 {
		wrong("neither run nor start is there: what shall be highly available?")
	}
	if len(c.Start) > 0 && len(c.Stop) == 0 {
		wrong("start is there without stop")
	}
	for name, command := range map[string][]string{"run": c.Run, "start": c.Start, "stop": c.Stop, "promote": c.Promote, "demote": c.Demote, "announce": c.Announce, "withdraw": c.Withdraw, "fence": c.Fence} {
		if len(command) > 0 && command[0] == "" {
			wrong("%s: the program is empty", name)
		}
	}
	for i, a := range c.Addresses {
		if !a.IP.IsValid() || !a.IP.Addr().Is4() {
			wrong("addresses[%d].ip: %s is no IPv4 address with a prefix length; use announce for others", i, a.IP)
		}
		if a.Device == "" {
			wrong("addresses[%d].device: is empty", i)
		}
	}
	if c.withDefaults().signal() == 0 {
		wrong("stop_signal: %q is no signal", c.StopSignal)
	}
	for name, d := range map[string]Duration{"stop_timeout": c.StopTimeout, "start_timeout": c.StartTimeout, "command_timeout": c.CommandTimeout, "cool_down": c.CoolDown, "fence_timeout": c.FenceTimeout} {
		if d < 0 {
			wrong("%s: %v is negative", name, time.Duration(d))
		}
	}
	if t := c.TLS; (t.Certificate == "") != (t.Key == "") || (t.Key == "") != (t.Authorities == "") {
		wrong("tls: needs certificate, key and authorities")
	}
	c.validateState(wrong)
	errs = append(errs, c.Check.validate("check"), c.Health.validate("health"), c.node().Validate())
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *Duration
		value time.Duration
	}{{&c.StopTimeout, 10 * time.Second}, {&c.StartTimeout, time.Minute}, {&c.CommandTimeout, 10 * time.Second}} {
		if *d.field == 0 {
			*d.field = Duration(d.value)
		}
	}
	if c.StopSignal == "" {
		c.StopSignal = "TERM"
	}
	c.Check, c.Health, c.State = c.Check.withDefaults(), c.Health.withDefaults(), c.State.withDefaults()
	return c
}

// lockPath is a file beside Dir that a guardian holds locked as long as it runs.
func (c Config) lockPath() string { return filepath.Clean(c.Dir) + ".guardian" }

// signal returns the number of StopSignal, 0 if it is none.
func (c Config) signal() unix.Signal {
	return unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(c.StopSignal), "SIG"))
}

// leave is how long the role's end may take, all commands included.
func (c Config) leave() time.Duration {
	d := time.Duration(c.StopTimeout)
	for _, command := range [][]string{c.Withdraw, c.Stop, c.Demote} {
		if len(command) > 0 {
			d += time.Duration(c.CommandTimeout)
		}
	}
	return d
}

// member is what the configuration says about the member, as a text.
func (c Config) member() string {
	c.Run, c.Start, c.Stop, c.Promote, c.Demote, c.Announce, c.Withdraw = nil, nil, nil, nil, nil, nil, nil
	c.Addresses, c.Check, c.StopSignal, c.StopTimeout, c.StartTimeout, c.CommandTimeout = nil, Check{}, "", 0, 0, 0
	return fmt.Sprintf("%+v", c)
}

// node is the member, without its callbacks.
func (c Config) node() ha.Config {
	c = c.withDefaults()
	n := ha.Config{
		Name: c.Name, Dir: c.Dir, Cluster: c.Cluster, Bind: c.Bind, Advertise: c.Advertise,
		Heartbeat: time.Duration(c.Heartbeat), ElectionTimeout: time.Duration(c.ElectionTimeout),
		// Others may not know of the agent's end before its program has ended.
		NoCrashEvidence: true,
		// The guardian is done, or has killed, a good while before.
		DrainTimeout: c.leave() + 5*time.Second,
		CoolDown:     time.Duration(c.CoolDown),
		FenceTimeout: time.Duration(c.FenceTimeout),
		Preempt:      time.Duration(c.Preempt),
	}
	for _, m := range c.Members {
		n.Members = append(n.Members, ha.Member{Name: m.Name, Addr: m.Addr, Priority: m.Priority})
	}
	if c.State.is() { // a checkpoint is all of the state, so a large one is not written again for a little log
		n.CheckpointBytes = max(64<<20, c.State.MaxBytes/4)
	}
	if t := c.TLS; t.Certificate != "" {
		n.GetTLS = ha.TLSFiles(t.Certificate, t.Key, t.Authorities)
	}
	if len(c.Fence) > 0 {
		n.OnFence = onfence.Command(c.Fence[0], c.Fence[1:]...)
	}
	if c.FenceBestEffort {
		n.FencePolicy = ha.FenceBestEffort
	}
	if h := c.Health; h.is() {
		n.Health, n.HealthInterval, n.HealthTimeout, n.HealthStrikes = h.ask, time.Duration(h.Interval), time.Duration(h.Timeout), h.Strikes
	}
	return n
}

// validURL reports whether a text is a URL of HTTP.
func validURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
