package cmdline

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/baton-ha/baton/ha/client"
)

// watch shows the cluster again and again: to a terminal as a page, else one after the other.
func watch(ctx context.Context, c *cli.Command, cl *client.Client) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	w := out(c)
	page, ok := w.(*os.File)
	ok = ok && term.IsTerminal(int(page.Fd())) && !c.Bool("json")
	if ok {
		defer openPage(w, end)()
	}
	look := time.NewTicker(c.Duration("interval"))
	defer look.Stop()
	changed := make(chan struct{}, 1)
	go func() {
		for range cl.Watch(ctx) {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	var before *overview // of the last tick
	for {
		o := observe(ctx, cl, c.Duration("timeout"))
		if ctx.Err() != nil {
			return nil // as it was wanted
		}
		var err error
		switch {
		case c.Bool("json"):
			err = printJSON(w, o, "")
		case ok:
			width, height, _ := term.GetSize(int(page.Fd()))
			_, err = io.WriteString(w, pageOf(o.table(before)+"\n"+o.Time.Format("15:04:05")+"   q ends this", width, height))
		default:
			_, err = fmt.Fprintf(w, "%s\n%s\n", o.Time.Format("15:04:05.000"), o.table(before))
		}
		if err != nil {
			return err
		}
		select {
		case <-look.C:
			before = o
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// What a terminal is told (ECMA-48 and xterm's alternate screen).
const (
	enterPage = "\x1b[?1049h\x1b[?25l"
	leavePage = "\x1b[?25h\x1b[?1049l"
	homePage  = "\x1b[H"
	restLine  = "\x1b[K"
	restPage  = "\x1b[J"
	bold      = "\x1b[1m"
	warn      = "\x1b[31m"
	plain     = "\x1b[0m"
)

// openPage takes the whole terminal, and calls end when q or Ctrl-C is pressed. What it returns gives the terminal back.
func openPage(w io.Writer, end func()) (leave func()) {
	_, _ = io.WriteString(w, enterPage)
	in := int(os.Stdin.Fd())
	restore := func() {}
	if state, err := term.MakeRaw(in); err == nil {
		restore = func() { _ = term.Restore(in, state) }
		go func() { // it ends with the process: a read of a terminal cannot be ended
			defer end()
			for key := make([]byte, 1); ; {
				if n, err := os.Stdin.Read(key); err != nil || n == 1 && (key[0] == 'q' || key[0] == 3) {
					return
				}
			}
		}()
	}
	return func() {
		_, _ = io.WriteString(w, leavePage)
		restore()
	}
}

// pageOf draws text over what is there, no larger than the terminal.
func pageOf(text string, width, height int) string {
	var b strings.Builder
	b.WriteString(homePage)
	lines := strings.Split(text, "\n")
	if height > 0 && len(lines) > height {
		lines = append(lines[:height-1], lines[len(lines)-1])
	}
	for i, line := range lines {
		if r := []rune(line); width > 0 && len(r) > width {
			line = string(r[:width])
		}
		switch {
		case i == 0:
			line = bold + line + plain
		case strings.HasPrefix(line, "! "):
			line = warn + line + plain
		case strings.HasPrefix(line, "*"):
			line = bold + line + plain
		}
		if b.WriteString(line + restLine); i < len(lines)-1 {
			b.WriteString("\r\n")
		}
	}
	b.WriteString(restPage)
	return b.String()
}
