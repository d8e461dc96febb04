package cmdline

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/internal/agent"
)

func commitCommand() *cli.Command {
	return &cli.Command{
		Name:  "commit",
		Usage: "commit the directory of the program that an agent runs here",
		Description: "What is in state.dir of the agent's configuration then goes to a majority of the members, all of it or nothing: the next Active begins\n" +
			"with it. Nothing may write to it until the command has ended. The program, and what it starts, finds the socket in BATON_COMMIT.\n\n" +
			"Examples:\n\n" +
			"    baton agent commit\n" +
			"    baton agent commit -socket /var/lib/baton/web.commit",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "socket", Usage: "ask at the agent's `SOCKET`, its dir with .commit behind it", Sources: cli.EnvVars("BATON_COMMIT")},
		},
		Action: runCommit,
	}
}

func runCommit(ctx context.Context, c *cli.Command) error {
	if _, err := words(c, 0, 0); err != nil {
		return err
	}
	socket := c.String("socket")
	if socket == "" {
		return usage("-socket or BATON_COMMIT is missing")
	}
	ctx, cancel := within(ctx, c)
	defer cancel()
	index, err := agent.Commit(ctx, socket)
	if err == nil {
		_, err = fmt.Fprintln(out(c), index)
	}
	return err
}
