package cmdline

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/ha/client"
)

func tailCommand() *cli.Command {
	return &cli.Command{
		Name: "tail", Usage: "print the records of the log", Category: "Records",
		Description: "Without -from it begins with the first record that is held. Records come in order, without a gap or a duplicate, from whichever\n" +
			"member is there.\n\n" +
			"Examples:\n\n" +
			"    baton tail -from 100 -follow\n" +
			"    baton tail -last 10\n" +
			"    baton tail -json | jq -r .text",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "from", Usage: "begin with record `N`"},
			&cli.Uint64Flag{Name: "last", Usage: "begin with the last `N` records", Aliases: []string{"n"}},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what comes, until a signal"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON: index, epoch, and the data as text, or as base64 where it is none"},
			&cli.BoolFlag{Name: "raw", Usage: "print nothing but the data, each record followed by a newline"},
		},
		Action: runTail,
	}
}

func runTail(ctx context.Context, c *cli.Command) error {
	switch _, err := words(c, 0, 0); {
	case err != nil:
		return err
	case c.IsSet("from") && c.IsSet("last"):
		return usage("-from and -last do not go together")
	case c.Bool("json") && c.Bool("raw"):
		return usage("-json and -raw do not go together")
	}
	cl, err := dial(ctx, c, false)
	if err != nil {
		return err
	}
	defer cl.Close()
	asking, cancel := within(ctx, c)
	defer cancel()
	last, err := lastRecord(asking, cl)
	if err != nil {
		return err
	}
	t := tailing{c: c, w: bufio.NewWriter(out(c)), from: max(c.Uint64("from"), 1), last: last, picky: c.IsSet("from")}
	if n := c.Uint64("last"); c.IsSet("last") {
		t.from, t.picky = last-min(n, last)+1, false
	}
	err = t.run(ctx, cl)
	var gone *client.CompactedError
	if errors.As(err, &gone) && !t.picky {
		t.from = gone.First
		err = t.run(ctx, cl)
	}
	return errors.Join(err, t.w.Flush())
}

// lastRecord asks for the last record that is committed: the Active if there is one, else any.
func lastRecord(ctx context.Context, cl *client.Client) (uint64, error) {
	r, err := cl.Status(ctx, cl.Cluster().Active)
	if err != nil {
		r, err = cl.Status(ctx, "")
	}
	if err != nil {
		return 0, reached(err)
	}
	return r.Status.Index, nil
}

// tailing is one tail.
type tailing struct {
	c          *cli.Command
	w          *bufio.Writer
	from, last uint64
	picky      bool // it must be that record
}

func (t *tailing) run(ctx context.Context, cl *client.Client) error {
	follow := t.c.Bool("follow")
	if !follow && t.from > t.last {
		return nil
	}
	for e, err := range cl.Subscribe(ctx, t.from) {
		if err != nil {
			return err
		}
		if err := t.print(e); err != nil {
			return err
		}
		if !follow && e.Index >= t.last {
			return nil
		}
		if follow && e.Index >= t.last { // somebody waits for it
			if err := t.w.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// aRecord is a record as JSON.
type aRecord struct {
	Index uint64  `json:"index"`
	Epoch uint64  `json:"epoch"`
	Text  *string `json:"text,omitempty"`
	Data  []byte  `json:"data,omitempty"` // where it is not text
}

func (t *tailing) print(e client.Entry) (err error) {
	switch {
	case t.c.Bool("raw"):
		_, err = t.w.Write(append(e.Data, '\n'))
	case t.c.Bool("json"):
		r := aRecord{Index: e.Index, Epoch: e.Epoch, Data: e.Data}
		if utf8.Valid(e.Data) {
			text := string(e.Data)
			r.Text, r.Data = &text, nil
		}
		err = json.NewEncoder(t.w).Encode(r)
	default:
		_, err = fmt.Fprintf(t.w, "%d\t%d\t%s\n", e.Index, e.Epoch, shown(e.Data))
	}
	return err
}

// shown is data for people: text as it is if it is printable, else quoted as in Go.
func shown(data []byte) string {
	if text := string(data); utf8.Valid(data) && printable(text) == text {
		return text
	}
	return strconv.QuoteToGraphic(string(data))
}

func appendCommand() *cli.Command {
	return &cli.Command{
		Name: "append", Usage: "append records to the log, past the program's own handler", ArgsUsage: "[RECORD…]", Category: "Records",
		Description: "Without a RECORD it is what comes on the standard input, as one record or, with -lines, each line. A record has 1 MiB at most.\n" +
			"Each is printed as its index and epoch once it cannot be lost. What records mean is the program's business: one that it does\n" +
			"not understand may stop it. After exit code 5 the record may be in the log.\n\n" +
			"Examples:\n\n" +
			"    baton append '{\"job\": 7}'\n" +
			"    baton append -lines <jobs.txt",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "lines", Usage: "each line of the standard input is a record"}},
		Action: func(ctx context.Context, c *cli.Command) error {
			records, err := words(c, 0, -1)
			switch {
			case err != nil:
				return err
			case c.Bool("lines") && len(records) > 0:
				return usage("-lines is for the standard input, and here are records as arguments")
			}
			o, err := dial(ctx, c, true)
			if err != nil {
				return err
			}
			defer o.Close()
			each := func(record []byte) error {
				ctx, cancel := within(ctx, c)
				defer cancel()
				index, epoch, err := o.Append(ctx, record)
				if err == nil {
					_, err = fmt.Fprintf(out(c), "%d\t%d\n", index, epoch)
				}
				return err
			}
			for _, r := range records {
				if err := each([]byte(r)); err != nil {
					return err
				}
			}
			if len(records) > 0 {
				return nil
			}
			return fromInput(os.Stdin, c.Bool("lines"), each)
		},
	}
}

const maxRecord = 1 << 20

// fromInput gives what is read to each, all of it or each line.
func fromInput(r io.Reader, lines bool, each func([]byte) error) error {
	if !lines {
		b, err := io.ReadAll(io.LimitReader(r, 64<<20))
		if err != nil {
			return err
		}
		return each(b)
	}
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxRecord+1)
	for s.Scan() {
		if err := each(s.Bytes()); err != nil {
			return err
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than 1 MiB: %w", client.ErrTooLarge)
	}
	return s.Err()
}

func callCommand() *cli.Command {
	return &cli.Command{
		Name: "call", Usage: "send a request to the Active's program, and print its answer", ArgsUsage: "[REQUEST]", Category: "Records",
		Description: "Without a REQUEST it is what comes on the standard input. The program answers with its Config.Handle. The request follows a failover,\n" +
			"and takes effect once. Exit code 4 is the program's own error.\n\n" +
			"Example:\n\n" +
			"    baton call 'get stock/7'",
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
			call := func(request []byte) error {
				ctx, cancel := within(ctx, c)
				defer cancel()
				answer, err := cl.Call(ctx, request)
				if err == nil {
					_, err = fmt.Fprintf(out(c), "%s\n", answer)
				}
				return err
			}
			if len(args) == 1 {
				return call([]byte(args[0]))
			}
			return fromInput(os.Stdin, false, call)
		},
	}
}
