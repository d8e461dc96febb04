// Package cmdline is the command line of baton: cmd/baton runs it. Each command is a function of a ctx and of its flags; what goes
// wrong is an error, of which this file makes a line that says what to do, and an exit code.
package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha/client"
)

// The exit codes. docs/cli.md lists them.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitUsage       = 2   // flags, arguments, the file of contexts, or the agent's configuration
	ExitUnreached   = 3   // no member, or no Active, in time
	ExitRefused     = 4   // not done, and will not be
	ExitUnknown     = 5   // it may have been done, or may be yet
	ExitDamaged     = 6   // files are damaged, or a backup is not whole
	ExitUnwell      = 7   // status -check: something is wrong
	ExitInterrupted = 130 // by a signal
)

// codes are the exit codes with what they mean.
var codes = []struct {
	code    int
	meaning string
}{
	{ExitDone, "done"},
	{ExitFailed, "it has failed for a reason that has no code of its own"},
	{ExitUsage, "flags, arguments, the file of contexts or the agent's configuration are wrong; nothing was done"},
	{ExitUnreached, "no member was reached, or nobody was Active, within -timeout; nothing was done"},
	{ExitRefused, "the cluster has refused it, or has refused this program; nothing was done"},
	{ExitUnknown, "it may have been done, or may be yet: look before you do it again"},
	{ExitDamaged, "files are damaged, or a backup is not whole"},
	{ExitUnwell, "status -check: nobody is Active, or a member is not well"},
	{ExitInterrupted, "a signal has ended it"},
}

// exitCodes lists them, a line for each.
func exitCodes() string {
	var b strings.Builder
	for _, c := range codes {
		fmt.Fprintf(&b, "    %-4d %s\n", c.code, c.meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// usageError is a fault of whoever called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// configError is a fault of the agent's configuration, which the text says whole.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errUnwell ends status -check, errDamaged verify; what there is to say was said.
var (
	errUnwell  = errors.New("the cluster is not well")
	errDamaged = errors.New("damage was found")
)

// Main runs a command line, of which the first word is the program's name, and returns its exit code.
func Main(args []string) int {
	prepare()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := Root()
	err := root.Run(ctx, args)
	if err == nil {
		return ExitDone
	}
	code := codeOf(ctx, err)
	if code == ExitInterrupted {
		return code
	}
	fmt.Fprintln(os.Stderr, "baton:", textOf(err))
	if advice := adviceFor(err); advice != "" {
		fmt.Fprintln(os.Stderr, "  "+advice)
	}
	return code
}

// Root returns the whole command line.
func Root() *cli.Command {
	root := &cli.Command{
		Name:  "baton",
		Usage: "operate clusters of baton, and make programs highly available",
		Description: "Commands about a cluster ask its members over their own port. Where they are says -addr, BATON_ADDR or a file of contexts, and\n" +
			"any one that is up is enough. A file of contexts is YAML:\n\n" +
			"    current: jobs\n" +
			"    contexts:\n" +
			"      jobs: {cluster: jobs, addrs: [a:7000, b:7000, c:7000], cert: operator.crt, key: operator.key, ca: ca.crt}\n\n" +
			"Examples:\n\n" +
			"    baton status -addr a:7000 -cluster jobs\n" +
			"    baton -context jobs handover -to b\n" +
			"    baton why -last 1\n\n" +
			"Exit codes:\n\n" + exitCodes(),
		Flags: targetFlags(),
		Commands: []*cli.Command{
			statusCommand(), statsCommand(), membersCommand(), handoverCommand(), stayAwayCommand(), comeBackCommand(),
			tailCommand(), appendCommand(), callCommand(),
			epochsCommand(), whyCommand(), eventsCommand(),
			verifyCommand(), inspectCommand(), backupCommand(), restoreCommand(), recoverCommand(),
			benchCommand(), certCommand(), agentCommand(), versionCommand(),
		},
		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: func(c *cli.Command) { c.Hidden, c.Category = false, "Set up" },
		Suggest:                         true,
		HideVersion:                     true,
		OnUsageError:                    wrongUsage,
		ExitErrHandler:                  func(context.Context, *cli.Command, error) {}, // Main does
		ErrWriter:                       os.Stderr,
	}
	finish(root)
	return root
}

// finish gives every command what all have.
func finish(c *cli.Command) {
	c.OnUsageError, c.HideHelpCommand = wrongUsage, true
	if c.Action == nil {
		c.Action = noCommand
	}
	for _, sub := range c.Commands {
		finish(sub)
	}
}

func wrongUsage(_ context.Context, c *cli.Command, err error, _ bool) error {
	return usageError{fmt.Errorf("%s: %w", c.FullName(), err)}
}

// noCommand is run where a command is missing, or is none.
func noCommand(_ context.Context, c *cli.Command) error {
	if name := c.Args().First(); name == "help" {
		return help(c, c.Args().Tail())
	} else if name != "" {
		text := fmt.Sprintf("%s has no command %q", c.FullName(), name)
		if near := cli.SuggestCommand(c.Commands, name); near != "" && near[0] == name[0] {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return usage("%s", text)
	}
	if err := cli.ShowSubcommandHelp(c); err != nil {
		return err
	}
	return usage("%s: a command is missing", c.FullName())
}

// help shows what the -h of the command that the words name below c shows.
func help(c *cli.Command, words []string) error {
	args := append(strings.Fields(c.FullName()), words...)
	for _, word := range words {
		sub := c.Command(word)
		if sub == nil {
			return usage("%s has no command %q", c.FullName(), word)
		}
		c = sub
	}
	root := Root()
	root.Writer = c.Root().Writer
	return root.Run(context.Background(), append(args, "-h")) // the ctx of a command names its parents
}

// words returns the arguments of a command, of which there must be so many.
func words(c *cli.Command, least, most int) ([]string, error) {
	args := c.Args().Slice()
	switch {
	case len(args) < least:
		return nil, usage("%s: %s is missing", c.FullName(), c.ArgsUsage)
	case most >= 0 && len(args) > most:
		return nil, usage("%s: %q is too much: it takes %s", c.FullName(), args[most], cmpOr(c.ArgsUsage, "no arguments"))
	}
	return args, nil
}

func cmpOr(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// codeOf returns the exit code of an error.
func codeOf(ctx context.Context, err error) int {
	var wrong usageError
	var exit cli.ExitCoder
	for _, line := range failures {
		if line.is(err) {
			return line.code
		}
	}
	switch {
	case errors.As(err, &wrong):
		return ExitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.As(err, &exit):
		return exit.ExitCode()
	case errors.Is(err, context.DeadlineExceeded):
		return ExitUnreached
	}
	return ExitFailed
}

// versionCommand prints what this is.
func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Category: "Set up", Usage: "print the version of this program, and of the protocol that it speaks",
		Action: func(_ context.Context, c *cli.Command) error {
			if _, err := words(c, 0, 0); err != nil {
				return err
			}
			_, err := fmt.Fprintln(out(c), versionText())
			return err
		},
	}
}

// out is where a command's results go.
func out(c *cli.Command) io.Writer { return c.Root().Writer }

// note writes a line for people, beside the results.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// named reports whether a client's error has one of some reasons.
func named(err error, reasons ...client.Reason) bool {
	var refused *client.ChangeError
	return errors.As(err, &refused) && slices.Contains(reasons, refused.Reason)
}
