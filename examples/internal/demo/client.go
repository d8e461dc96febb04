package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Attempt bounds one HTTP request: a paused member accepts connections and never answers.
const Attempt = time.Second

// A Client follows the Active: it tries one member after the other, and goes where they send it. All
// its methods may be called by any number of goroutines, which share what they learn.
type Client struct {
	http    *http.Client
	members []string
	active  atomic.Pointer[string] // the member that last answered or was named; nil if none is known
}

// Status is what the demonstrations read of a member's GET /status.
type Status struct {
	Name, State, Token string
	Epoch              uint64
	Applied            uint64 // the last record in the state machine
}

func newClient(members []string) *Client {
	return &Client{members: members, http: &http.Client{
		Timeout:       Attempt,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 5 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Post sends a request until a member has carried it out or has refused it for good, and returns the
// HTTP status; a JSON answer is decoded into out. Without a definite answer it sends the same request
// again, perhaps to another member, so requests must be idempotent. It ends with ctx.
func (c *Client) Post(ctx context.Context, pathQuery, body string, out any) (int, error) {
	redirected := false
	for next := rand.IntN(len(c.members)); ; next++ {
		target := c.active.Load()
		if target == nil {
			target = &c.members[next%len(c.members)]
		}
		code, to, err := c.post(ctx, *target, pathQuery, body, out)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err != nil: // gone, paused, or too slow
		case code == http.StatusTemporaryRedirect && to != nil && !redirected:
			c.active.Store(to)
			redirected = true
			continue
		case code < 300 || code >= 400 && code < 500 && code != http.StatusConflict:
			c.active.Store(target)
			return code, nil
		}
		c.active.CompareAndSwap(target, nil)
		redirected = false
		if err := Pace(ctx, time.Duration(3+rand.IntN(9))*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// post makes one attempt. to is the member that a redirect names.
func (c *Client) post(ctx context.Context, host, pathQuery, body string, out any) (code int, to *string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+pathQuery, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	code, header, err := c.do(req, out)
	if u, uerr := url.Parse(header.Get("Location")); uerr == nil {
		if i := slices.Index(c.members, u.Host); i >= 0 {
			to = &c.members[i]
		}
	}
	return code, to, err
}

// PostTo makes one attempt at one member, over a connection of its own, and returns the answer as it
// is.
func (c *Client) PostTo(ctx context.Context, m *Member, pathQuery string) (code int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+m.HTTP+pathQuery, nil)
	if err != nil {
		return 0, "", err
	}
	var raw json.RawMessage
	req.Close = true
	code, _, err = c.do(req, &raw)
	return code, string(bytes.TrimSpace(raw)), err
}

// Get reads something from one member.
func (c *Client) Get(ctx context.Context, m *Member, pathQuery string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.HTTP+pathQuery, nil)
	if err != nil {
		return err
	}
	code, _, err := c.do(req, out)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%s%s: HTTP status %d", m.HTTP, pathQuery, code)
	}
	return err
}

func (c *Client) do(req *http.Request, out any) (int, http.Header, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // to the end, so that the connection is used again
	// What is not JSON comes from what is in front of the service: there is no Active.
	if err == nil && len(b) > 0 && out != nil && resp.Header.Get("Content-Type") == "application/json" {
		err = json.Unmarshal(b, out)
	}
	return resp.StatusCode, resp.Header, err
}

// AwaitActive waits until some member says that it is Active in an epoch after the one given.
func (c *Cluster) AwaitActive(ctx context.Context, after uint64) (m *Member, s Status, err error) {
	err = Await(ctx, "a member becomes Active", 20*time.Second, func() bool {
		for _, m = range c.Members {
			quick, cancel := context.WithTimeout(ctx, 250*time.Millisecond) // a paused one does not answer
			s = Status{}
			err := c.Client.Get(quick, m, "/status", &s)
			cancel()
			if err == nil && s.State == "Active" && s.Epoch > after {
				return true
			}
		}
		return false
	})
	return m, s, err
}

// AwaitIndex waits until a member has applied the record of an index.
func (c *Cluster) AwaitIndex(ctx context.Context, m *Member, index uint64) error {
	var s Status
	return Await(ctx, fmt.Sprintf("%s catches up to record %d", m.Name, index), 20*time.Second, func() bool {
		return c.Client.Get(ctx, m, "/status", &s) == nil && s.Applied >= index
	})
}
