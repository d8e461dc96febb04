// Package demo runs the demonstrations of the examples: it starts the members as processes of the
// running program, kills and pauses them, follows the Active over HTTP, and cleans up behind itself
// however the demonstration ends. It is no part of how a service uses baton: look at the examples'
// own files for that.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"
)

// limit bounds a whole demonstration, so that it ends by itself whatever happens.
const limit = 90 * time.Second

// errInterrupted is the cause of the script's ctx after Ctrl-C.
var errInterrupted = errors.New("interrupted")

// Run runs a demonstration and returns the exit status of the process: 0 if the script returned
// nil, 1 if not, 130 after Ctrl-C. The script gets three members, not yet started, and returns what
// it has shown. Its ctx ends with Ctrl-C and when a member ends that nobody has asked to. flags are
// given to the members beside the usual ones.
//
// The members and the directory are gone when Run returns, except that the directory is kept after a
// failure.
func Run(name string, script func(ctx context.Context, c *Cluster) (string, error), flags ...string) int {
	return RunEmpty(name, func(ctx context.Context, c *Cluster) (string, error) {
		if err := c.addThree(flags); err != nil {
			return "", err
		}
		return script(ctx, c)
	})
}

// RunEmpty is [Run] for a script that adds the members itself.
func RunEmpty(name string, script func(ctx context.Context, c *Cluster) (string, error)) int {
	if !canPause {
		fmt.Println("This demonstration pauses processes with SIGSTOP, which this system does not have.\n" +
			"Run it on Linux, macOS or a BSD; the members themselves run here too, see -help.")
		return 1
	}
	ignoreBrokenPipe()
	whole, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(whole, limit, fmt.Errorf("not done after %v", limit))
	defer stop()
	signals := make(chan os.Signal, 1) // the first one counts
	signal.Notify(signals, interrupts...)
	go func() { <-signals; cancel(errInterrupted) }()

	dir, err := os.MkdirTemp("", "baton-"+name+"-")
	if err != nil {
		fmt.Println("FAIL:", err)
		return 1
	}
	c := &Cluster{started: time.Now(), dir: dir, fail: cancel}
	summary, err := script(ctx, c)
	if c.lingers && err == nil && ctx.Err() == nil {
		fmt.Println("\nPASS: " + summary + "\n\nThe members go on, and so do their pages, until Ctrl-C.")
		<-whole.Done()
		ctx = whole
	}
	if err == nil {
		err = c.stopAll()
	}
	c.killAll()
	if ctx.Err() != nil { // says better than the script what went wrong
		err = context.Cause(ctx)
	}
	switch {
	case errors.Is(err, errInterrupted):
		os.RemoveAll(dir)
		fmt.Println("\ninterrupted; the members are stopped and their files removed")
		return 130
	case err != nil:
		c.printLogs()
		fmt.Printf("\nFAIL: %v\n      the members' files and logs are kept in %s\n", err, dir)
		return 1
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Println("FAIL:", err)
		return 1
	}
	fmt.Println("\nPASS: " + summary)
	return 0
}

// ShowPages says where the pages of some members are, at a path of their HTTP servers. When the script has succeeded the members go on until
// Ctrl-C, so that they can be looked at.
func (c *Cluster) ShowPages(path string, members []*Member) {
	c.lingers = true
	for _, m := range members {
		c.Printf("%s's page: http://%s%s", m.Name, m.HTTP, path)
	}
}

// Printf prints a line with the time since the start in front of it.
func (c *Cluster) Printf(format string, args ...any) {
	fmt.Printf("%6.2fs  %s\n", time.Since(c.started).Seconds(), fmt.Sprintf(format, args...))
}

// Pace lets the demonstration run on for a while. It returns the cause of ctx if that ends first.
func Pace(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Await polls until ok says yes. It gives up after patience, or when ctx ends.
func Await(ctx context.Context, what string, patience time.Duration, ok func() bool) error {
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v in vain: %s", patience, what)
		}
		if err := Pace(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// Thousands writes 1234567 as 1,234,567.
func Thousands[T int | int64 | uint64](n T) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// printLogs prints the end of every member's log.
func (c *Cluster) printLogs() {
	for _, m := range c.Members {
		b, err := os.ReadFile(m.logPath())
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
		fmt.Printf("\nthe last lines of %s:\n", filepath.Base(m.logPath()))
		for _, l := range lines[max(0, len(lines)-15):] {
			fmt.Printf("  %s\n", l)
		}
	}
}
