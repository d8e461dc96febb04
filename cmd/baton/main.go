// Command baton is the command-line program of baton. It looks at clusters and changes them, looks into directories of members,
// backs up and restores, makes certificates, measures, and makes any program highly available:
//
//	baton status -addr a:7000 -cluster jobs   how a cluster is
//	baton agent -demo                         see the agent with three members on this machine
//	baton -h                                  everything else
//
// docs/cli.md in the module has every command, flag and exit code.
package main

import (
	"os"

	"github.com/baton-ha/baton/internal/cmdline"
)

func main() { os.Exit(cmdline.Main(os.Args)) }
