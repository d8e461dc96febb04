// Command baton is the command-line program of baton: it makes any program highly available.
//
//	baton agent -config agent.yaml    run a program on the Active of a cluster
//	baton agent -demo                 see it with three agents on this machine
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"
)

func main() {
	prepare()
	root := &cli.Command{
		Name:     "baton",
		Usage:    "high availability for programs",
		Commands: []*cli.Command{agentCommand()},
	}
	if err := root.Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "baton:", err)
		os.Exit(1)
	}
}
