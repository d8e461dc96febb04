package datanode

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
)

// reportToAll tells every NameNode what is here, Standbys as well as the Active: whoever takes over knows already where the blocks
// are. It follows the list of NameNodes as it changes.
func (d *DataNode) reportToAll(ctx context.Context) error {
	var feeds sync.WaitGroup
	defer feeds.Wait()
	running := map[string]context.CancelFunc{}
	for c := range d.cfg.Names.Watch(ctx) {
		listed := map[string]bool{}
		for _, m := range c.Members {
			if m.Advertise == "" {
				continue
			}
			listed[m.Advertise] = true
			if running[m.Advertise] == nil {
				feed, cancel := context.WithCancel(ctx)
				running[m.Advertise] = cancel
				feeds.Go(func() { d.reportTo(feed, m.Advertise) })
			}
		}
		for at, cancel := range running {
			if !listed[at] {
				cancel()
				delete(running, at)
			}
		}
	}
	for _, cancel := range running {
		cancel()
	}
	return nil
}

const (
	reportTimeout = 2 * time.Second
	reportPause   = 100 * time.Millisecond // after one that has failed
	reportLeast   = 5 * time.Second        // between two, also where nothing has changed: the NameNode may be another process
)

// reportTo tells one NameNode: all at first and when it asks for that, and then what changes.
func (d *DataNode) reportTo(ctx context.Context, at string) {
	var told uint64
	for all := true; ctx.Err() == nil; {
		p, changed := d.store.report(told, all)
		p.Node = d.cfg.Name
		ok, err := post(ctx, at+"/report", p)
		wait := reportLeast
		switch {
		case err == nil && ok:
			all, told = false, p.To
		case err == nil && !p.All:
			all = true
			continue
		default: // it is not there, or has had a later one; whether this one has come is not known
			slog.Debug("report", "to", at, "err", err)
			all, changed, wait = true, nil, reportPause
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// post sends a report. ok is false if all is wanted.
func post(ctx context.Context, url string, p dfs.Report) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	body, err := json.Marshal(p)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return true, nil
	case http.StatusConflict:
		return false, nil
	}
	return false, fmt.Errorf("%s: %s", url, resp.Status)
}
