//go:build linux

package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A Check asks whether something is well, in one of three ways.
type Check struct {
	// Command is well if it ends with 0.
	Command []string `yaml:"command"`
	// HTTP is a URL that is well if the answer to a GET is 2xx. Redirects are followed.
	HTTP string `yaml:"http"`
	// TCP is an address that is well if it takes a connection.
	TCP string `yaml:"tcp"`
	// Interval is the time between two checks (0: 1 s), Timeout how long one may take (0: 5 s), Strikes how many must fail in a row
	// (0: 3).
	Interval Duration `yaml:"interval"`
	Timeout  Duration `yaml:"timeout"`
	Strikes  int      `yaml:"strikes"`
}

func (c Check) is() bool { return len(c.Command) > 0 || c.HTTP != "" || c.TCP != "" }

func (c Check) withDefaults() Check {
	if c.Interval == 0 {
		c.Interval = Duration(time.Second)
	}
	if c.Timeout == 0 {
		c.Timeout = Duration(5 * time.Second)
	}
	if c.Strikes == 0 {
		c.Strikes = 3
	}
	return c
}

func (c Check) validate(name string) error {
	ways := 0
	for _, there := range []bool{len(c.Command) > 0, c.HTTP != "", c.TCP != ""} {
		if there {
			ways++
		}
	}
	switch {
	case ways > 1:
		return fmt.Errorf("agent: %s: one of command, http and tcp, not %d of them", name, ways)
	case c.HTTP != "" && !validURL(c.HTTP):
		return fmt.Errorf("agent: %s.http: %q is no URL of http or https", name, c.HTTP)
	case c.Interval < 0 || c.Timeout < 0 || c.Strikes < 0:
		return fmt.Errorf("agent: %s: interval, timeout and strikes are not negative", name)
	}
	if c.TCP != "" {
		if _, _, err := net.SplitHostPort(c.TCP); err != nil {
			return fmt.Errorf("agent: %s.tcp: %w", name, err)
		}
	}
	return nil
}

// ask checks once. It returns when ctx ends, in any case.
func (c Check) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	switch {
	case c.HTTP != "":
		return askHTTP(ctx, c.HTTP)
	case c.TCP != "":
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.TCP)
		if err == nil {
			conn.Close()
		}
		return err
	}
	return command(ctx, c.Command, nil)
}

func askHTTP(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Close = true // each check finds out whether a new client would be served
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return err
}

// command runs a command with its output where ours goes. When ctx ends it is killed, with all of its process group.
func command(ctx context.Context, args, env []string) error {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Env = env
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	if err := runCommand(c); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}
