package cmdline

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// This file tells what has happened: epochs, events, and what they say together.

func epochsCommand() *cli.Command {
	return &cli.Command{
		Name: "epochs", Usage: "list who was Active in which epoch, and from which record on", Category: "Look",
		Description: "Examples:\n\n    baton epochs\n    baton epochs -json | tail -1",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "member", Usage: "as the member `NAME` knows it, instead of any"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, an epoch on each line"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if _, err := words(c, 0, 0); err != nil {
				return err
			}
			cl, err := dial(ctx, c, false)
			if err != nil {
				return err
			}
			defer cl.Close()
			ctx, cancel := within(ctx, c)
			defer cancel()
			w := tabwriter.NewWriter(out(c), 0, 0, 2, ' ', 0)
			if !c.Bool("json") {
				fmt.Fprintln(w, "EPOCH\tACTIVE\tFIRST RECORD\tTERM")
			}
			for e, err := range cl.Epochs(ctx, c.String("member")) {
				switch {
				case err != nil:
					return reached(err)
				case c.Bool("json"):
					err = printJSON(out(c), e, "")
				default:
					_, err = fmt.Fprintf(w, "%d\t%s\t%d\t%d\n", e.Epoch, e.Holder, e.First, e.Term)
				}
				if err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
}

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "list what the members have decided, and why", Category: "Look",
		Description: "The events of all members that are reached are put into one line of time, those of their earlier processes too. With -dir they are read\n" +
			"from directories of members, which need not run.\n\n" +
			"Examples:\n\n" +
			"    baton events -last 20\n" +
			"    baton events -follow -member b\n" +
			"    baton events -json | jq -r 'select(.kind == \"ended\") | .cause'\n" +
			"    baton events -dir /var/lib/jobs",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "member", Usage: "only those of the member `NAME`"},
			&cli.StringFlag{Name: "dir", Usage: "read them from the directories `DIR,…` of members"},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "only the last `N` that are there already"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what comes, until a signal"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, an event on each line"},
		},
		Action: runEvents,
	}
}

func runEvents(ctx context.Context, c *cli.Command) error {
	switch _, err := words(c, 0, 0); {
	case err != nil:
		return err
	case c.IsSet("dir") && (c.IsSet("member") || c.Bool("follow")):
		return usage("-dir reads what is there, of whoever it is: -member and -follow do not go with it")
	case c.Int("last") < 0:
		return usage("-last must not be negative")
	}
	print := func(e ha.Event) error {
		if c.Bool("json") {
			return printJSON(out(c), e, "")
		}
		_, err := fmt.Fprintln(out(c), e.Time.Format(time.DateOnly), printable(e.String()))
		return err
	}
	var events []ha.Event
	if c.IsSet("dir") {
		x, err := ha.Explain(list(c, "dir")...)
		if err != nil {
			return err
		}
		events = x.Events
	} else {
		cl, err := dial(ctx, c, false)
		if err != nil {
			return err
		}
		defer cl.Close()
		if c.Bool("follow") {
			return follow(ctx, cl, c.String("member"), c.Int("last"), print)
		}
		if events, err = eventsOf(ctx, c, cl, c.String("member")); err != nil {
			return err
		}
		events = ha.ExplainEvents(events).Events
	}
	if n := c.Int("last"); n > 0 {
		events = events[max(0, len(events)-n):]
	}
	for _, e := range events {
		if err := print(e); err != nil {
			return err
		}
	}
	return nil
}

// memberNames are those whose events are wanted.
func memberNames(cl *client.Client, member string) (names []string) {
	if member != "" {
		return []string{member}
	}
	for _, m := range cl.Members() {
		names = append(names, m.Name)
	}
	return names
}

// eventsOf asks all members, or one, for their events. Of several it is enough that one is reached; who is not is noted.
func eventsOf(ctx context.Context, c *cli.Command, cl *client.Client, member string) (all []ha.Event, err error) {
	ctx, cancel := within(ctx, c)
	defer cancel()
	var asking sync.WaitGroup
	var mu sync.Mutex // guards all, failed and last
	names, failed := memberNames(cl, member), 0
	var last error
	for _, name := range names {
		asking.Go(func() {
			asked, cancel := ctx, context.CancelFunc(func() {})
			if member == "" {
				asked, cancel = context.WithTimeoutCause(ctx, memberPatience, errTimeout)
			}
			defer cancel()
			events, err := collect(cl.Events(asked, name, false))
			mu.Lock()
			defer mu.Unlock()
			if all = append(all, events...); err != nil {
				failed, last = failed+1, err
				if member == "" {
					note("baton: the events of %s are missing: %s", name, textOf(err))
				}
			}
		})
	}
	asking.Wait()
	if failed == len(names) {
		return nil, reached(last)
	}
	return all, nil
}

func collect(said func(yield func(client.Event, error) bool)) (events []ha.Event, err error) {
	for e, err := range said {
		if err != nil {
			return events, err
		}
		own, err := eventOf(e)
		if err != nil {
			return events, err
		}
		events = append(events, own)
	}
	return events, nil
}

// eventOf is an event as package ha has it.
func eventOf(e client.Event) (own ha.Event, err error) { return own, json.Unmarshal(e.JSON, &own) }

// follow prints events as they come, of one member or of all there are. Who goes away and comes back is followed again.
func follow(ctx context.Context, cl *client.Client, member string, last int, print func(ha.Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	events := make(chan ha.Event)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel(nil)
	if member != "" {
		if _, ok := cl.Cluster().Find(member); !ok {
			return fmt.Errorf("%w: %q", client.ErrNoMember, member)
		}
	}
	following.Go(func() {
		known := map[string]bool{}
		for now := range cl.Watch(ctx) {
			for _, m := range now.Members {
				if !known[m.Name] && (member == "" || m.Name == member) {
					known[m.Name] = true
					following.Go(func() { followOne(ctx, cl, m.Name, last, events) })
				}
			}
		}
	})
	for {
		select {
		case e := <-events:
			if err := print(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// followOne follows one member until ctx ends. Of what is there already it gives the last ones, if last is not 0.
func followOne(ctx context.Context, cl *client.Client, member string, last int, events chan<- ha.Event) {
	var run int64 // of the last event that was given
	var seq uint64
	give := func(e ha.Event) {
		if e.Run < run || e.Run == run && e.Seq <= seq {
			return
		}
		select {
		case events <- e:
			run, seq = e.Run, e.Seq
		case <-ctx.Done():
		}
	}
	for first := true; ctx.Err() == nil; first = false {
		if first && last > 0 {
			if kept, err := collect(cl.Events(ctx, member, false)); err == nil {
				if skipped := kept[:max(0, len(kept)-last)]; len(skipped) > 0 {
					run, seq = skipped[len(skipped)-1].Run, skipped[len(skipped)-1].Seq
				}
			}
		}
		for e, err := range cl.Events(ctx, member, true) {
			if err != nil {
				break
			}
			if own, err := eventOf(e); err == nil {
				give(own)
			}
		}
		pause := time.NewTimer(time.Second)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

func whyCommand() *cli.Command {
	return &cli.Command{
		Name: "why", Usage: "explain the changes of the role, and why nobody is Active if nobody is", Category: "Look",
		Description: "It reads the events of all members that are reached, or of directories. Each change is told with its cause, how long nobody was Active,\n" +
			"what the time went by with, and what would have been faster.\n\n" +
			"Examples:\n\n" +
			"    baton why -last 1\n" +
			"    baton why -dir /backup/a,/backup/b",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Usage: "read the events from the directories `DIR,…` of members"},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "only the last `N` changes"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON: the changes, and how it is now"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			switch _, err := words(c, 0, 0); {
			case err != nil:
				return err
			case c.Int("last") < 0:
				return usage("-last must not be negative")
			}
			x, err := explanation(ctx, c)
			if err != nil {
				return err
			}
			if n := c.Int("last"); n > 0 {
				x.Failovers = slices.Clone(x.Failovers[max(0, len(x.Failovers)-n):])
			}
			if c.Bool("json") {
				return printJSON(out(c), toldOf(x), "  ")
			}
			return tell(out(c), x)
		},
	}
}

// told is an explanation as JSON.
type told struct {
	Failovers []toldFailover `json:"failovers"`
	Now       string         `json:"now"`
}

type toldFailover struct {
	From    string    `json:"from"`
	To      string    `json:"to"`
	Epoch   uint64    `json:"epoch"`
	Cause   string    `json:"cause"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Seconds float64   `json:"seconds"` // from Began to Ended
	Phases  ha.Phases `json:"phases"`  // nanoseconds
	Text    string    `json:"text"`
}

func toldOf(x ha.Explanation) told {
	t := told{Failovers: []toldFailover{}, Now: x.Now}
	for _, f := range x.Failovers {
		t.Failovers = append(t.Failovers, toldFailover{f.From, f.To, f.Epoch, f.Cause, f.Began, f.Ended, f.Ended.Sub(f.Began).Seconds(), f.Phases, f.Text})
	}
	return t
}

func explanation(ctx context.Context, c *cli.Command) (ha.Explanation, error) {
	if c.IsSet("dir") {
		return ha.Explain(list(c, "dir")...)
	}
	cl, err := dial(ctx, c, false)
	if err != nil {
		return ha.Explanation{}, err
	}
	defer cl.Close()
	events, err := eventsOf(ctx, c, cl, "")
	return ha.ExplainEvents(events), err
}

func tell(w io.Writer, x ha.Explanation) error {
	for _, f := range x.Failovers {
		if _, err := fmt.Fprintf(w, "%s %s\n\n", f.Ended.Format("2006-01-02 15:04:05.000"), printable(f.Text)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, printable(x.Now))
	return err
}
