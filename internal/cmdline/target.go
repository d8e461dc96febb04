package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"go.yaml.in/yaml/v3"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// This file says where the cluster is: flags come before the environment, and that before the file of contexts.

func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "addr", Aliases: []string{"a"}, Usage: "ask the members at `HOST:PORT,…`; one that is up is enough", Sources: cli.EnvVars("BATON_ADDR"), Category: "Cluster"},
		&cli.StringFlag{Name: "cluster", Usage: "the `NAME` of the cluster", Sources: cli.EnvVars("BATON_CLUSTER"), Category: "Cluster"},
		&cli.StringFlag{Name: "cert", Usage: "show the certificate in `FILE` (PEM)", Sources: cli.EnvVars("BATON_TLS_CERT"), Category: "Cluster"},
		&cli.StringFlag{Name: "key", Usage: "its key is in `FILE` (PEM)", Sources: cli.EnvVars("BATON_TLS_KEY"), Category: "Cluster"},
		&cli.StringFlag{Name: "ca", Usage: "trust the authorities in `FILE` (PEM)", Sources: cli.EnvVars("BATON_TLS_CA"), Category: "Cluster"},
		&cli.StringFlag{Name: "tls", Usage: "take those that are not given from tls.crt, tls.key and ca.crt in `DIR`, as Kubernetes mounts a secret", Sources: cli.EnvVars("BATON_TLS"), Category: "Cluster"},
		&cli.StringFlag{Name: "context", Usage: "take all of these from the context `NAME`", Sources: cli.EnvVars("BATON_CONTEXT"), Category: "Cluster"},
		&cli.StringFlag{Name: "contexts", Usage: "contexts are in `FILE` (YAML); else in baton/contexts.yaml of the user's configuration", Sources: cli.EnvVars("BATON_CONTEXTS"), Category: "Cluster"},
		&cli.DurationFlag{Name: "timeout", Usage: "wait so long for members, and for what is asked of them", Value: 10 * time.Second, Sources: cli.EnvVars("BATON_TIMEOUT"), Category: "Cluster"},
		&cli.BoolFlag{Name: "verbose", Usage: "say what happens to connections", Category: "Cluster"},
	}
}

// A target is where a cluster is.
type target struct {
	Cluster string   `yaml:"cluster"`
	Addrs   []string `yaml:"addrs"`
	Cert    string   `yaml:"cert"`
	Key     string   `yaml:"key"`
	CA      string   `yaml:"ca"`
	TLS     string   `yaml:"tls"` // a directory with tls.crt, tls.key and ca.crt
}

// files takes what is not given from the directory.
func (t *target) files() {
	if t.TLS == "" {
		return
	}
	for name, field := range map[string]*string{"tls.crt": &t.Cert, "tls.key": &t.Key, "ca.crt": &t.CA} {
		*field = cmpOr(*field, filepath.Join(t.TLS, name))
	}
}

// contexts is the file.
type contexts struct {
	Current  string            `yaml:"current"`
	Contexts map[string]target `yaml:"contexts"`
}

// targetOf puts together where the cluster is.
func targetOf(c *cli.Command) (target, error) {
	t, err := contextOf(c)
	if err != nil {
		return t, err
	}
	for name, field := range map[string]*string{"cluster": &t.Cluster, "cert": &t.Cert, "key": &t.Key, "ca": &t.CA, "tls": &t.TLS} {
		*field = cmpOr(c.String(name), *field)
	}
	if addrs := list(c, "addr"); len(addrs) > 0 {
		t.Addrs = addrs
	}
	t.files()
	switch {
	case len(t.Addrs) == 0:
		return t, usage("no members to ask: give -addr HOST:PORT, set BATON_ADDR, or make a context")
	case t.Cluster == "":
		return t, usage("the cluster has no name: give -cluster NAME, set BATON_CLUSTER, or make a context")
	case (t.Cert == "") != (t.Key == ""), (t.Cert == "") != (t.CA == ""):
		return t, usage("-cert, -key and -ca go together: a certificate, its key, and the authority of the members'")
	}
	return t, nil
}

// contextOf returns the context that is asked for, or the current one, if there is any.
func contextOf(c *cli.Command) (target, error) {
	path, name := c.String("contexts"), c.String("context")
	asked := path != "" || name != ""
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			if asked {
				return target{}, usage("%w", err)
			}
			return target{}, nil
		}
		path = filepath.Join(dir, "baton", "contexts.yaml")
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return target{}, nil
	}
	var file contexts
	if err == nil {
		decoder := yaml.NewDecoder(strings.NewReader(string(b)))
		decoder.KnownFields(true)
		if err = decoder.Decode(&file); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	if err != nil {
		return target{}, usage("contexts: %w", err)
	}
	if name = cmpOr(name, file.Current); name == "" {
		return target{}, nil
	}
	t, ok := file.Contexts[name]
	if !ok {
		return t, usage("%s has no context %q: it has %s", path, name, cmpOr(strings.Join(slices.Sorted(maps.Keys(file.Contexts)), ", "), "none"))
	}
	for _, f := range []*string{&t.Cert, &t.Key, &t.CA, &t.TLS} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(filepath.Dir(path), *f)
		}
	}
	return t, nil
}

// dial connects to the cluster. operator: to change something.
func dial(ctx context.Context, c *cli.Command, operator bool) (*client.Client, error) {
	t, err := targetOf(c)
	if err != nil {
		return nil, err
	}
	cfg := client.Config{Cluster: t.Cluster, Addrs: t.Addrs, Name: "baton", Operator: operator, Logger: slog.New(slog.DiscardHandler)}
	if c.Bool("verbose") {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if t.Cert != "" {
		cfg.GetTLS = ha.TLSFiles(t.Cert, t.Key, t.CA)
		if _, err := cfg.GetTLS(); err != nil {
			return nil, usage("%w", err)
		}
	}
	if err := cfg.Validate(); err != nil {
		return nil, usageError{err}
	}
	ctx, cancel := within(ctx, c)
	defer cancel()
	cl, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// Who has answered first may be one that is not in touch with the others: then one that is may answer a moment later.
	ctx, cancel = context.WithTimeout(ctx, memberPatience)
	defer cancel()
	for now := range cl.Watch(ctx) {
		if now.InTouch {
			break
		}
	}
	return cl, nil
}

// errTimeout is what ends what takes longer than -timeout.
var errTimeout error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string { return "-timeout is over" }
func (timeoutError) Unwrap() error { return context.DeadlineExceeded }

// within bounds what is asked by -timeout.
func within(ctx context.Context, c *cli.Command) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.Duration("timeout"), errTimeout)
}

// operate runs something that changes the cluster within -timeout.
func operate(ctx context.Context, c *cli.Command, do func(ctx context.Context, o *client.Client) error) error {
	o, err := dial(ctx, c, true)
	if err != nil {
		return err
	}
	defer o.Close()
	ctx, cancel := within(ctx, c)
	defer cancel()
	return do(ctx, o)
}

// list is the value of a flag with commas in it.
func list(c *cli.Command, name string) (parts []string) {
	for part := range strings.SplitSeq(c.String(name), ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
