package cmdline

import (
	"context"
	"log/slog"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/internal/agent"
)

// prepare makes this process what its name says, if it is one of the agent's helpers.
func prepare() {
	agent.Helper()
	demoChild()
}

func agentCommand() *cli.Command {
	return &cli.Command{
		Name:     "agent",
		Usage:    "run a program on the Active of a cluster",
		Category: "Set up",
		Description: "The agent is a member of a cluster of three or more. The program that the configuration names runs on one of them at a time.\n" +
			"It finds BATON_TOKEN, BATON_EPOCH, BATON_NAME, BATON_CLUSTER and BATON_MEMBERS in its environment, and should carry the\n" +
			"token wherever it writes to the outside. SIGTERM ends the agent in good order, SIGHUP makes it read the configuration again.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read the configuration from `FILE` (YAML)"},
			&cli.StringFlag{Name: "name", Usage: "be the member `NAME`, whatever the file says: the rest can be the same on all"},
			&cli.StringFlag{Name: "dir", Usage: "keep the member's files in `DIR`, whatever the file says"},
			&cli.StringFlag{Name: "bind", Usage: "listen on `HOST:PORT`, whatever the file says"},
			&cli.BoolFlag{Name: "check", Usage: "say what is wrong with the configuration, and end"},
			&cli.BoolFlag{Name: "demo", Usage: "three agents on this machine with a small HTTP service that counts its visitors: kill, pause, hand over"},
		},
		Commands: []*cli.Command{commitCommand()},
		Action:   runAgent,
	}
}

func runAgent(ctx context.Context, c *cli.Command) error {
	if c.Bool("demo") {
		return demo(ctx)
	}
	path := c.String("config")
	if path == "" {
		return usage("agent: -config or -demo is missing")
	}
	read := func() (agent.Config, error) {
		cfg, err := agent.ReadFile(path)
		for name, field := range map[string]*string{"name": &cfg.Name, "dir": &cfg.Dir, "bind": &cfg.Bind} {
			if c.IsSet(name) {
				*field = c.String(name)
			}
		}
		return cfg, err
	}
	cfg, err := read()
	if err == nil {
		err = cfg.Validate()
	}
	switch {
	case err != nil:
		return configError{err}
	case c.Bool("check"):
		return nil
	}
	ctx, reload, stop := agent.Signals()
	defer stop()
	return agent.Run(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)), reload, read)
}
