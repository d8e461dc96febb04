package cmdline

import (
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha/client"
)

func membersCommand() *cli.Command {
	return &cli.Command{
		Name: "members", Usage: "change who belongs to the cluster", Category: "Change",
		Description: "Each change goes to the leader, whichever member is asked, and is in force when the command ends. Exit code 4 says that it was\n" +
			"refused and why, 5 that it may have been made: asking again does no harm.\n\n" +
			"Examples:\n\n" +
			"    baton members add d d.example:7000\n" +
			"    baton members remove a\n" +
			"    baton members priority b 10",
		Commands: []*cli.Command{
			{
				Name: "add", Usage: "add a member whose program runs with an empty directory and Config.Join", ArgsUsage: "NAME HOST:PORT",
				Description: "It is an observer until it has caught up; then the leader makes a voter of it, if it is to be one.\n\n" +
					"Examples:\n\n" +
					"    baton members add d d.example:7000\n" +
					"    baton members add -kind observer reports r.example:7000",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "kind", Usage: "what it is there for: voter, observer or arbiter", Value: "voter"},
					&cli.IntFlag{Name: "priority", Usage: "its priority: the role goes to one of the highest"},
					&cli.StringFlag{Name: "advertise", Usage: "its program is reached at `HOST:PORT` or a URL"},
				},
				Action: changing(2, func(ctx context.Context, c *cli.Command, o *client.Client, args []string) (string, error) {
					m := client.NewMember{Name: args[0], Addr: args[1], Kind: c.String("kind"), Priority: c.Int("priority"), Advertise: c.String("advertise")}
					return fmt.Sprintf("%s is a member", m.Name), o.AddMember(ctx, m)
				}),
			},
			{
				Name: "remove", Usage: "remove a member for good; if it is Active it hands over first", ArgsUsage: "NAME",
				Description: "Its directory can be used no more.\n\nExample:\n\n    baton members remove a",
				Action: changing(1, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
					return args[0] + " is no member any more", o.RemoveMember(ctx, args[0])
				}),
			},
			{
				Name: "replace", Usage: "let a new directory take the place of a member's that is lost or damaged", ArgsUsage: "NAME",
				Description: "Start its program first, under the same name and at the same address, with an empty directory and Config.Join.\n\nExample:\n\n    baton members replace b",
				Action: changing(1, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
					return args[0] + " is replaced", o.ReplaceMember(ctx, args[0])
				}),
			},
			{
				Name: "promote", Usage: "make a voter of an observer that has caught up", ArgsUsage: "NAME",
				Description: "Example:\n\n    baton members promote reports",
				Action: changing(1, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
					return args[0] + " is a voter", o.Promote(ctx, args[0])
				}),
			},
			{
				Name: "demote", Usage: "make an observer of a voter; if it is Active it hands over first", ArgsUsage: "NAME",
				Description: "Example:\n\n    baton members demote c",
				Action: changing(1, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
					return args[0] + " is an observer", o.Demote(ctx, args[0])
				}),
			},
			{
				Name: "addr", Usage: "change where the others reach a member", ArgsUsage: "NAME HOST:PORT",
				Description: "Where it listens is for its own configuration to say.\n\nExample:\n\n    baton members addr c c2.example:7000",
				Action: changing(2, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
					return fmt.Sprintf("%s is at %s", args[0], args[1]), o.ChangeAddr(ctx, args[0], args[1])
				}),
			},
			{
				Name: "priority", Usage: "change the priority of a member: the role goes to one of the highest", ArgsUsage: "NAME NUMBER",
				Description: "From -1000000 to 1000000; 0 is the default. Put -- before a negative one.\n\nExamples:\n\n    baton members priority b 10\n    baton members priority -- c -10",
				Action: changing(2, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
					to, err := strconv.Atoi(args[1])
					if err != nil || to < -1_000_000 || to > 1_000_000 {
						return "", usage("priority: %q is no number from -1000000 to 1000000", args[1])
					}
					return fmt.Sprintf("%s has priority %d", args[0], to), o.SetPriority(ctx, args[0], to)
				}),
			},
		},
	}
}

// changing is the action of a command that changes something, takes so many arguments, and says what was done.
func changing(count int, do func(ctx context.Context, c *cli.Command, o *client.Client, args []string) (done string, err error)) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		args, err := words(c, count, count)
		if err != nil {
			return err
		}
		return operate(ctx, c, func(ctx context.Context, o *client.Client) error {
			done, err := do(ctx, c, o, args)
			if err == nil {
				_, err = fmt.Fprintln(out(c), done)
			}
			return err
		})
	}
}

func handoverCommand() *cli.Command {
	return &cli.Command{
		Name: "handover", Usage: "move the role from the Active to another member", Category: "Change",
		Description: "OnActive's ctx ends there, and the best of the others becomes Active, or the member that -to names. The command ends when it is.\n\n" +
			"Examples:\n\n" +
			"    baton handover\n" +
			"    baton handover -to b\n" +
			"    baton handover -here -addr 127.0.0.1:7000    before the member there is stopped",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "hand over to the member `NAME`"},
			&cli.BoolFlag{Name: "here", Usage: "only if the member that answers at the first -addr is Active; else nothing is done, and the code is 0"},
		},
		Action: changing(0, func(ctx context.Context, c *cli.Command, o *client.Client, _ []string) (string, error) {
			before, to := o.Cluster(), c.String("to")
			if c.Bool("here") {
				t, err := targetOf(c)
				if err != nil {
					return "", err
				}
				here, err := o.Who(ctx, t.Addrs[0])
				if err != nil {
					return "", reached(err)
				}
				if before.Active != here {
					return here + " is not Active", nil
				}
			}
			if to != "" && before.Active == to {
				return to + " is Active already", nil
			}
			if err := o.HandOver(ctx, to); err != nil {
				return "", err
			}
			for now := range o.Watch(ctx) {
				if now.Active != "" && now.Epoch > before.Epoch {
					return fmt.Sprintf("%s is Active in epoch %d", now.Active, now.Epoch), nil
				}
			}
			return "", fmt.Errorf("the role was handed over: %w: %w", client.ErrNoActive, context.Cause(ctx))
		}),
	}
}

func stayAwayCommand() *cli.Command {
	return &cli.Command{
		Name: "stay-away", Usage: "keep a member from the role, for maintenance", ArgsUsage: "NAME", Category: "Change",
		Description: "It goes on voting and follows the log; if it is Active it hands over first. It lasts until come-back, or until its process ends.\n\n" +
			"Example:\n\n" +
			"    baton stay-away -reason \"a new kernel\" b",
		Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "the `TEXT` that others see", Value: "asked for by an operator"}},
		Action: changing(1, func(ctx context.Context, c *cli.Command, o *client.Client, args []string) (string, error) {
			return args[0] + " stays away from the role", o.StayAway(ctx, args[0], c.String("reason"))
		}),
	}
}

func comeBackCommand() *cli.Command {
	return &cli.Command{
		Name: "come-back", Usage: "end what stay-away has begun", ArgsUsage: "NAME", Category: "Change",
		Description: "Example:\n\n    baton come-back b",
		Action: changing(1, func(ctx context.Context, _ *cli.Command, o *client.Client, args []string) (string, error) {
			return args[0] + " may have the role again", o.ComeBack(ctx, args[0])
		}),
	}
}
