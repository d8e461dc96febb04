package cmdline

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/storage"
)

// This file looks into directories of members.

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "read everything in a member's directory, or a backup, and name what is damaged", ArgsUsage: "DIR|FILE", Category: "Directories",
		Description: "The member must not run. Nothing is written. Exit code 6 says that something is damaged, also where a member could start with it, or that\n" +
			"the FILE is not a whole backup.\n\n" +
			"Examples:\n\n" +
			"    baton verify /var/lib/jobs\n" +
			"    baton verify jobs.baton",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action: func(ctx context.Context, c *cli.Command) error {
			args, err := words(c, 1, 1)
			if err != nil {
				return err
			}
			if info, err := os.Stat(args[0]); err == nil && info.Mode().IsRegular() {
				return verifyBackup(ctx, c, args[0], info.Size())
			}
			b := newBar("verify", -1)
			report, err := storage.Verify(ctx, args[0], func(p storage.Progress) { b.to(p.Done, p.Total) })
			if b.end(); err != nil {
				return err
			}
			if c.Bool("json") {
				err = printJSON(out(c), verifiedOf(report), "  ")
			} else {
				err = printReport(out(c), report)
			}
			if err == nil && (len(report.Damages) > 0 || report.Start != nil) {
				err = errDamaged
			}
			return err
		},
	}
}

// verified is a report as JSON.
type verified struct {
	Identity   storage.Identity `json:"identity"`
	Files      int              `json:"files"`
	Bytes      int64            `json:"bytes"`
	Damages    []damage         `json:"damages"`
	Unfinished []damage         `json:"unfinished"`
	Start      string           `json:"start_error,omitempty"`
}

type damage struct {
	File string `json:"file"`
	From int64  `json:"from"`
	To   int64  `json:"to"`
	What string `json:"what"`
}

func verifiedOf(r *storage.Report) verified {
	v := verified{Identity: r.Identity, Files: r.Files, Bytes: r.Bytes, Damages: []damage{}, Unfinished: []damage{}}
	for _, d := range r.Damages {
		v.Damages = append(v.Damages, damage(d))
	}
	for _, d := range r.Unfinished {
		v.Unfinished = append(v.Unfinished, damage(d))
	}
	if r.Start != nil {
		v.Start = r.Start.Error()
	}
	return v
}

func printReport(w io.Writer, r *storage.Report) error {
	var b strings.Builder
	whose := "nobody knows whose it is"
	if r.Identity.Member != "" {
		whose = fmt.Sprintf("member %s of cluster %s", r.Identity.Member, r.Identity.Cluster)
	}
	fmt.Fprintf(&b, "%s: %d files, %s\n", whose, r.Files, bytesOf(r.Bytes))
	for _, d := range r.Damages {
		fmt.Fprintf(&b, "damaged: %v\n", d)
	}
	for _, d := range r.Unfinished {
		fmt.Fprintf(&b, "unfinished, as a crash leaves it: %v\n", d)
	}
	switch {
	case r.Start != nil:
		fmt.Fprintf(&b, "a member would not start: %s\n", textOf(r.Start))
	case len(r.Damages) > 0:
		b.WriteString("a member would start, and find the damage when it reads that\n")
	default:
		b.WriteString("nothing is damaged\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "show whose a member's directory is, its epochs, segments and snapshots", ArgsUsage: "DIR", Category: "Directories",
		Description: "The member may run: nothing is locked or written. It is quick and proves nothing; verify does.\n\n" +
			"Example:\n\n" +
			"    baton inspect /var/lib/jobs",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Action: func(_ context.Context, c *cli.Command) error {
			args, err := words(c, 1, 1)
			if err != nil {
				return err
			}
			x, err := ha.Inspect(args[0])
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(out(c), x, "  ")
			}
			return printInspection(out(c), x)
		},
	}
}

// shownEpochs is how many epochs are shown to people.
const shownEpochs = 10

func printInspection(to io.Writer, x ha.Inspection) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("member", "%s, raft id %x, incarnation %x", x.Identity.Member, x.Identity.ID, x.Identity.Incarnation)
	row("cluster", "%s, id %s", x.Identity.Cluster, x.ClusterID)
	if !x.Born {
		row("", "its cluster has not begun yet")
	}
	for _, name := range slices.Sorted(maps.Keys(x.Met)) {
		row("has met", "%s, incarnation %x", name, x.Met[name])
	}
	if x.Condemned != "" {
		row("condemned", "%s", printable(x.Condemned))
	}
	d := x.Durable
	row("durable", "raft entry %d of term %d; term %d; snapshot at %d", d.Last, d.LastTerm, d.Term, d.Snapshot)
	row("files", "%s", bytesOf(x.Used))
	for _, s := range x.Segments {
		row("segment", "%016x  raft entries from %d on, %s", s.Seq, s.First, bytesOf(s.Bytes))
	}
	for _, s := range x.Snapshots {
		state := bytesOf(s.State)
		if s.State < 0 {
			state = "unreadable"
		}
		row("snapshot", "up to raft entry %d of term %d, state %s", s.Index, s.Term, state)
	}
	cp := x.Checkpoint
	if x.Newest != nil {
		row("checkpoint", "up to record %d, state machine %s", cp.Index, cmpOr(cp.Machine, "none"))
		for _, m := range cp.Members {
			row("  member", "%s at %s, %v, priority %d", m.Name, cmpOr(m.Addr, "its configured address"), m.Kind, m.Priority)
		}
		epochs := cp.Epochs
		if more := len(epochs) - shownEpochs; more > 0 {
			row("  epochs", "%d older ones", more)
			epochs = epochs[more:]
		}
		for _, e := range epochs {
			row("  epoch", "%d of %s, from record %d on", e.Epoch, e.Holder, e.First)
		}
	}
	if x.Events > 0 {
		row("events", "%d, the last: %s %s", x.Events, x.Last.Time.Format("2006-01-02"), printable(x.Last.String()))
	}
	for _, dir := range x.Aside {
		row("set aside", "%s", dir)
	}
	for _, f := range x.Faults {
		row("fault", "%s", printable(f))
	}
	w.Flush()
	_, err := io.WriteString(to, b.String())
	return err
}
