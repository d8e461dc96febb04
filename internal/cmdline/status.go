package cmdline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha/client"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the members, who is Active, and what is wrong", Category: "Look",
		Description: "Every member is asked what it says of itself; of one that is not reached the others tell. Exit code 0 says that somebody could be\n" +
			"asked; with -check that a member is Active and nothing is wrong.\n\n" +
			"Examples:\n\n" +
			"    baton status\n" +
			"    baton status -watch            as a page that follows what happens; q ends it\n" +
			"    baton status -json | jq -r .active\n" +
			"    baton status -check || echo look after it",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it again whenever it changes, until q or a signal"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON: the report of each member as it is; with -watch one a line"},
			&cli.BoolFlag{Name: "check", Usage: "end with code 7 unless somebody is Active, all members are reached, and none has a problem"},
			&cli.DurationFlag{Name: "interval", Usage: "with -watch, ask all members so often", Value: time.Second},
		},
		Action: runStatus,
	}
}

func runStatus(ctx context.Context, c *cli.Command) error {
	if _, err := words(c, 0, 0); err != nil {
		return err
	}
	if c.Duration("interval") <= 0 {
		return usage("-interval must be positive")
	}
	cl, err := dial(ctx, c, false)
	if err != nil {
		return err
	}
	defer cl.Close()
	if c.Bool("watch") {
		return watch(ctx, c, cl)
	}
	o := observe(ctx, cl, c.Duration("timeout"))
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(out(c), o, "  ")
	} else {
		_, err = io.WriteString(out(c), o.table(nil))
	}
	if err == nil && c.Bool("check") {
		err = o.check()
	}
	return err
}

// An overview is how a cluster is, asked of all members at one time.
type overview struct {
	Time    time.Time  `json:"time"`
	Cluster string     `json:"cluster"`
	ID      string     `json:"cluster_id"`
	Epoch   uint64     `json:"epoch"`  // the newest that somebody knows
	Active  string     `json:"active"` // "": nobody
	Members []observed `json:"members"`
}

// observed is one member.
type observed struct {
	Name   string          `json:"name"`
	Addr   string          `json:"addr"`
	Err    string          `json:"error,omitempty"` // why it was not reached
	Report json.RawMessage `json:"report,omitempty"`

	own   *client.Report      // nil: it was not reached
	heard client.MemberStatus // what the others say, or itself
}

// memberPatience is how long one member is waited for: the page must come although one is down.
const memberPatience = 2 * time.Second

// observe asks all members.
func observe(ctx context.Context, cl *client.Client, patience time.Duration) *overview {
	ctx, cancel := context.WithTimeoutCause(ctx, min(patience, memberPatience), errTimeout)
	defer cancel()
	members := cl.Members()
	o := &overview{Time: time.Now().Round(0), Members: make([]observed, len(members))}
	var asking sync.WaitGroup
	for i, m := range members {
		x := &o.Members[i]
		x.Name, x.Addr = m.Name, m.Addr
		x.heard = client.MemberStatus{Name: m.Name, Addr: m.Addr, Kind: m.Kind, State: "-", Liveness: m.Liveness}
		asking.Go(func() {
			r, err := cl.Status(ctx, m.Name)
			if err != nil {
				x.Err = textOf(err)
				return
			}
			x.own, x.Report = r, r.JSON
		})
	}
	asking.Wait()
	if len(members) == 0 { // whoever answers is on no list yet
		if r, err := cl.Status(ctx, ""); err == nil {
			o.Members = []observed{{Name: r.Status.Name, own: r, Report: r.JSON}}
		}
	}
	o.gather()
	return o
}

// gather puts together what the members say: each of itself, and of those who were not reached who has heard them last.
func (o *overview) gather() {
	told := map[string]client.MemberStatus{}
	for _, x := range o.Members {
		if x.own == nil {
			continue
		}
		o.Cluster, o.ID = x.own.Cluster, cmp.Or(strings.Trim(o.ID, "0"), x.own.ClusterID)
		if s := x.own.Status; s.Epoch > o.Epoch || s.Epoch == o.Epoch && s.Active != "" {
			o.Epoch, o.Active = s.Epoch, s.Active
		}
		for _, m := range x.own.Members {
			if known, ok := told[m.Name]; !ok || m.Name == x.Name || m.Heard.After(known.Heard) && o.silent(m.Name) {
				told[m.Name] = m
			}
		}
	}
	for i := range o.Members {
		x := &o.Members[i]
		if m, ok := told[x.Name]; ok {
			x.heard = m
		} else if x.own != nil {
			x.heard = client.MemberStatus{Name: x.Name, Kind: "-"}
		}
		if x.own != nil { // what the others have heard is perhaps of an older directory under its name
			s := x.own.Status
			x.heard.State, x.heard.Epoch, x.heard.Index, x.heard.Applied = s.State, s.Epoch, s.Index, s.Applied
		}
	}
	slices.SortFunc(o.Members, func(a, b observed) int { return strings.Compare(a.Name, b.Name) })
}

func (o *overview) silent(name string) bool {
	i := slices.IndexFunc(o.Members, func(x observed) bool { return x.Name == name })
	return i < 0 || o.Members[i].own == nil
}

// check is nil if all is well.
func (o *overview) check() error {
	if len(o.ailments()) > 0 {
		return errUnwell
	}
	return nil
}

// ailments says what is wrong, a line for each.
func (o *overview) ailments() (lines []string) {
	if o.Active == "" {
		lines = append(lines, "nobody is Active")
	}
	for _, x := range o.Members {
		if x.own == nil {
			lines = append(lines, fmt.Sprintf("%s was not reached: %s", x.Name, x.Err))
			if x.heard.Liveness != "" && x.heard.Liveness != "Unknown" {
				lines[len(lines)-1] += fmt.Sprintf(" (the others say: %s)", strings.ToLower(x.heard.Liveness))
			}
			continue
		}
		s := x.own.Status
		if s.Err != "" {
			lines = append(lines, fmt.Sprintf("%s: %s", x.Name, s.Err))
		}
		for _, p := range s.Problems {
			about := p.Kind
			if p.Peer != "" {
				about += " " + p.Peer
			}
			lines = append(lines, fmt.Sprintf("%s has a problem (%s): %s", x.Name, about, p.Err))
		}
		for _, b := range s.Obstacles {
			if b.Kind != "observer" && b.Kind != "arbiter" {
				lines = append(lines, fmt.Sprintf("%s may not be Active, or had better not (%s): %s", x.Name, b.Kind, b.Text))
			}
		}
	}
	return lines
}

// table is the overview for people. before is one of earlier, for rates; nil: there is none.
func (o *overview) table(before *overview) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %s", o.Cluster)
	if id := strings.Trim(o.ID, "0"); id != "" {
		fmt.Fprintf(&b, " (%.8s)", o.ID)
	}
	if fmt.Fprintf(&b, "   epoch %d   ", o.Epoch); o.Active == "" {
		b.WriteString("nobody is Active")
	} else {
		fmt.Fprintf(&b, "%s is Active", o.Active)
	}
	if rate, ok := o.rate(before); ok {
		fmt.Fprintf(&b, "   %.0f records/s", rate)
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tNAME\tSTATE\tKIND\tALIVE\tEPOCH\tRECORD\tAPPLIED\tLAG\tPRIORITY\tVERSION\tADDRESS")
	for _, x := range o.Members {
		m, star := x.heard, " "
		if x.Name == o.Active {
			star = "*"
		}
		kind := m.Kind
		if m.Joining {
			kind += ", joining"
		}
		state := m.State
		if x.own == nil && (m.Liveness == "Left" || m.State == "Unknown") {
			state = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%d\t%s\t%s\n", star, x.Name, state, kind, alive(x), m.Epoch, m.Index, m.Applied, lagOf(m),
			m.Priority, printable(cmpOr(m.Program, "-")), x.Addr)
	}
	w.Flush()
	for _, x := range o.Members {
		if x.own == nil {
			continue
		}
		for _, s := range x.own.Status.Snapshots {
			direction := "from"
			if s.Sends {
				direction = "to"
			}
			fmt.Fprintf(&b, "\n%s: a snapshot %s %s: %s", x.Name, direction, s.Peer, bytesOf(s.Bytes))
			if s.Size >= 0 {
				fmt.Fprintf(&b, " of %s", bytesOf(s.Size))
			}
		}
	}
	for _, line := range o.ailments() {
		b.WriteString("\n! " + printable(line))
	}
	for _, line := range o.workers() {
		b.WriteString("\n" + printable(line))
	}
	return strings.TrimSuffix(b.String(), "\n") + "\n"
}

// workers says which programs have announced themselves.
func (o *overview) workers() (lines []string) {
	seen := map[string]bool{}
	for _, x := range o.Members {
		if x.own == nil {
			continue
		}
		for _, w := range x.own.Workers {
			if !seen[w.Name] {
				seen[w.Name] = true
				lines = append(lines, fmt.Sprintf("worker %s (%s) %s %s", w.Name, strings.ToLower(w.Liveness), w.Addr, w.Text))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// rate is how many records a second came since an earlier overview.
func (o *overview) rate(before *overview) (float64, bool) {
	if before == nil {
		return 0, false
	}
	span := o.Time.Sub(before.Time).Seconds()
	return float64(o.index()-min(o.index(), before.index())) / span, span > 0
}

func (o *overview) index() (newest uint64) {
	for _, x := range o.Members {
		newest = max(newest, x.heard.Index)
	}
	return newest
}

func alive(x observed) string {
	switch {
	case x.own != nil && x.own.Status.State == "Failed":
		return "failed"
	case x.own != nil:
		return "yes"
	case x.heard.Liveness == "" || x.heard.Liveness == "Unknown":
		return "?"
	}
	return strings.ToLower(x.heard.Liveness)
}

func lagOf(m client.MemberStatus) string {
	if m.Lag == 0 {
		return "-"
	}
	text := fmt.Sprint(m.Lag)
	if lag := time.Duration(m.LagTime * float64(time.Second)); lag >= time.Millisecond {
		text += fmt.Sprintf(" (%v)", lag.Round(time.Millisecond))
	}
	return text
}

// bytesOf is a size for people.
func bytesOf(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(n), 0
	for ; size >= 1024 && unit < len(units)-1; unit++ {
		size /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

// printable is a text in one line that does nothing to a terminal: what is in it may come from anybody.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

func printJSON(w io.Writer, v any, indent string) error {
	e := json.NewEncoder(w)
	e.SetIndent("", indent)
	return e.Encode(v)
}

func statsCommand() *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "print what a member has done since it was opened, as JSON", ArgsUsage: "[MEMBER]", Category: "Look",
		Description: "The names are those of ha.Stats. Without a MEMBER the Active is asked.\n\n" +
			"Example:\n\n" +
			"    baton stats b | jq .Log.Appended",
		Action: func(ctx context.Context, c *cli.Command) error {
			args, err := words(c, 0, 1)
			if err != nil {
				return err
			}
			cl, err := dial(ctx, c, false)
			if err != nil {
				return err
			}
			defer cl.Close()
			ctx, cancel := within(ctx, c)
			defer cancel()
			member := ""
			if len(args) == 0 {
				active, err := cl.Active(ctx)
				if err != nil {
					return err
				}
				member = active.Name
			} else {
				member = args[0]
			}
			b, err := cl.Stats(ctx, member)
			if err != nil {
				return reached(err)
			}
			return printJSON(out(c), b, "  ")
		},
	}
}

// reached makes of an error of one member's connection that it was not reached, unless it says more.
func reached(err error) error {
	if as[*fs.PathError](err) || errors.Is(err, context.Canceled) {
		return err
	}
	for _, line := range failures {
		if line.is(err) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", client.ErrUnreachable, err)
}
