// Package onfence has ready-made functions for Config.OnFence of package ha: a command, which is what HDFS calls shell and, with
// ssh as the command, sshfence; a request over HTTP; and the first of several that succeeds.
//
//	cfg.OnFence = onfence.First(
//		onfence.Command("/usr/local/bin/power-off"), // gets $BATON_PREVIOUS_ADDR
//		onfence.HTTP(nil, "http://switch.example/fence"),
//	)
//
// A fence that is asked twice to keep the same member out must succeed twice: the first answer may have been lost with the member
// that asked. All functions may be called by any goroutine.
package onfence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"github.com/baton-ha/baton/ha"
)

// A Func is what Config.OnFence takes.
type Func = func(ctx context.Context, p ha.Previous) error

// maxOutput is how much is kept of what a command or a server says, in bytes, for the error.
const maxOutput = 4 << 10

// Command returns a Func that runs a program. It has fenced if the program exits with status 0; when ctx ends it is killed. The
// program gets the environment of this process and, besides:
//
//	BATON_MEMBER          the member that is about to become Active
//	BATON_PREVIOUS        the member that is to be kept out
//	BATON_PREVIOUS_ADDR   its address, host:port, empty if it is not known
//	BATON_PREVIOUS_EPOCH  its epoch, decimal
//	BATON_PREVIOUS_ENDED  how its time is known to have ended: handed-over, lease-expired, process-gone, restarted, unknown
//
// The error has the last 4 KiB of what the program has written.
func Command(name string, args ...string) Func {
	return func(ctx context.Context, p ha.Previous) error {
		cmd := exec.CommandContext(ctx, name, args...)
		var out tail
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.WaitDelay = time.Second // its children may hold its output open
		cmd.Env = append(cmd.Environ(),
			"BATON_MEMBER="+p.By, "BATON_PREVIOUS="+p.Name, "BATON_PREVIOUS_ADDR="+p.Addr,
			"BATON_PREVIOUS_EPOCH="+strconv.FormatUint(p.Epoch, 10), "BATON_PREVIOUS_ENDED="+string(p.Ended))
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("onfence: %s: %w: %s", name, err, bytes.TrimSpace(out))
		}
		return nil
	}
}

// tail is the last of what was written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	*t = (*t)[max(0, len(*t)-maxOutput):]
	return len(b), nil
}

// HTTP returns a Func that sends a POST request, with a body in JSON:
//
//	{"member": "b", "previous": "a", "addr": "10.0.0.1:7001", "epoch": 7, "ended": "lease-expired"}
//
// It has fenced if the answer's status is 200 to 299; when ctx ends the request is given up. A nil client is [http.DefaultClient].
// The error has the first 4 KiB of the answer.
func HTTP(client *http.Client, url string) Func {
	if client == nil {
		client = http.DefaultClient
	}
	return func(ctx context.Context, p ha.Previous) error {
		body, err := json.Marshal(struct {
			Member   string    `json:"member"`
			Previous string    `json:"previous"`
			Addr     string    `json:"addr"`
			Epoch    uint64    `json:"epoch"`
			Ended    ha.Ending `json:"ended"`
		}{p.By, p.Name, p.Addr, p.Epoch, p.Ended})
		if err != nil {
			return fmt.Errorf("onfence: %w", err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("onfence: %w", err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("onfence: %w", err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
		if res.StatusCode < 200 || res.StatusCode > 299 {
			return fmt.Errorf("onfence: %s answers %s: %s", url, res.Status, bytes.TrimSpace(text))
		}
		return err
	}
}

// First returns a Func that tries one fence after the other until one succeeds, as HDFS does with its list of fencing methods. Its
// error is that of all of them, or why ctx has ended.
func First(fences ...Func) Func {
	return func(ctx context.Context, p ha.Previous) error {
		var errs []error
		for _, f := range fences {
			err := f(ctx, p)
			if err == nil {
				return nil
			}
			if errs = append(errs, err); ctx.Err() != nil {
				break
			}
		}
		return errors.Join(append(errs, errNone)...)
	}
}

// errNone says that no fence of a list has succeeded.
var errNone = errors.New("onfence: no fence has succeeded")
