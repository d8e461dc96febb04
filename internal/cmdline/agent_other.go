//go:build !linux

package cmdline

import (
	"context"
	"errors"

	"github.com/urfave/cli/v3"
)

func prepare() {}

func agentCommand() *cli.Command {
	return &cli.Command{Name: "agent", Category: "Set up", Usage: "run a program on the Active of a cluster (on Linux only)", Action: func(context.Context, *cli.Command) error {
		return errors.New("the agent runs on Linux only: elsewhere nothing makes sure that the program dies with it")
	}}
}
