package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/lines"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// Cluster is who there is, as a member has said last. It is a value whose slice is shared and must not be changed.
type Cluster struct {
	Epoch   uint64   // in force; 0: none has begun
	Active  string   // name of the member that holds it; empty: nobody is known
	Members []Member // all, in the order in which the cluster names them
	// InTouch says that the member that has said so last leads, or hears a leader: else others may know more, also of the members.
	InTouch bool
}

// Member is one member of the cluster.
type Member struct {
	Name      string
	Addr      string // where members and clients reach it, host:port
	Advertise string // where its program is reached, as ha.Config.Advertise says there; may be empty
	Kind      string // what it is there for: voter, observer …
	State     string // its role, as ha.State prints it
	Liveness  string // whether it is there, as ha.Liveness prints it
}

// Find returns the member of a name.
func (c Cluster) Find(name string) (m Member, ok bool) {
	i := slices.IndexFunc(c.Members, func(m Member) bool { return m.Name == name })
	if i < 0 {
		return m, false
	}
	return c.Members[i], true
}

func (c Cluster) equal(o Cluster) bool {
	return c.Epoch == o.Epoch && c.Active == o.Active && c.InTouch == o.InTouch && slices.Equal(c.Members, o.Members)
}

// Client knows a cluster. Close must be called.
type Client struct {
	cfg      Config
	lines    *lines.Queue // between us and the program's logger
	sessions sessions
	caller   *wire.Caller
	company  company
	end      context.CancelFunc // of sessions.life
	wg       sync.WaitGroup

	mu      sync.Mutex // guards what follows
	known   bool       // a member has answered
	now     Cluster
	version uint64           // of its list of members
	changed chan struct{}    // closed and replaced after each change of what is above
	failed  map[string]error // why members cannot be reached, by where they should be; of the last round
	refused error            // why nobody will ever answer; nil: somebody may
}

// Dial returns a client of a cluster as soon as one of its members has answered. It fails with all faults of cfg, with what every
// member has refused us for where that does not pass, or, when ctx ends first, with an error that wraps ctx's cause and
// [ErrUnreachable] and says what was in the way at each address.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	queue := lines.New(cfg.Logger.Handler())
	cfg.Logger = queue.Logger()
	sc, err := session.NewClient(session.ClientConfig{
		Cluster: cfg.Cluster, Name: cfg.Name, Role: cfg.role(), TLS: cfg.TLS, GetTLS: cfg.GetTLS, Authorize: cfg.Authorize,
		DialTimeout: cfg.DialTimeout, HandshakeTimeout: 3 * cfg.DialTimeout, Logger: cfg.Logger,
		Streams: session.StreamConfig{Ping: signOfLife, Window: readAhead},
	})
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	c := &Client{
		cfg: cfg, lines: queue, sessions: sessions{client: sc, life: life, of: map[string]*dialled{}}, end: end,
		changed: make(chan struct{}), failed: map[string]error{},
	}
	c.caller = c.newCaller()
	c.company.c = c
	c.wg.Go(func() { c.follow(life) })
	if err := c.await(ctx, func() bool { return c.known }); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// signOfLife is how often a member is looked at for a sign of life: after four without one its streams have ended, and others are tried.
const signOfLife = 500 * time.Millisecond

// readAhead is how much of a stream is on its way or waits to be read at most, in bytes: twice what a member writes at a time goes out while as much is read.
const readAhead = 2 << 20

// Close ends everything: what waits returns [ErrClosed]. It may be called again.
func (c *Client) Close() error {
	c.end()
	c.caller.Close()
	c.company.close()
	c.wg.Wait()
	c.sessions.close()
	ctx, cancel := context.WithTimeout(context.Background(), lastLines)
	defer cancel()
	c.lines.Flush(ctx)
	return nil
}

// lastLines is how long Close waits for the program's logger to take the last lines.
const lastLines = time.Second

// await waits until something is so, which is looked at under mu, and again after each change.
func (c *Client) await(ctx context.Context, so func() bool) error {
	for {
		c.mu.Lock()
		ok, changed, refused := so(), c.changed, c.refused
		c.mu.Unlock()
		switch {
		case c.sessions.life.Err() != nil:
			return ErrClosed
		case ok:
			return nil
		case refused != nil:
			return refused
		}
		select {
		case <-changed:
		case <-c.sessions.life.Done():
		case <-ctx.Done():
			return c.whyNot(context.Cause(ctx))
		}
	}
}

// whyNot says what was in the way of what ctx has ended.
func (c *Client) whyNot(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) == 0 {
		if c.known {
			return fmt.Errorf("%w: %w", ErrNoActive, cause)
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, cause)
	}
	var texts []string
	for at, err := range c.failed {
		texts = append(texts, at+": "+err.Error())
	}
	slices.Sort(texts)
	return fmt.Errorf("%w: %w: %s", ErrUnreachable, cause, strings.Join(texts, "; "))
}

// Active returns the member that is Active, and waits until one is known. When ctx ends first, the error wraps its cause and
// [ErrNoActive], or [ErrUnreachable].
func (c *Client) Active(ctx context.Context) (Member, error) {
	var found Member
	err := c.await(ctx, func() (ok bool) {
		found, ok = c.now.Find(c.now.Active)
		return ok
	})
	return found, err
}

// Cluster returns what is known at this moment. It never blocks.
func (c *Client) Cluster() Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Members returns all members as they are known at this moment. It never blocks.
func (c *Client) Members() []Member { return slices.Clone(c.Cluster().Members) }

// Watch yields what is known, and again each time that has changed, until ctx ends or the client is closed. It is
// level-triggered: a slow watcher does not see every step in between, but always the last one. Any number may run.
func (c *Client) Watch(ctx context.Context) iter.Seq[Cluster] {
	return func(yield func(Cluster) bool) {
		for {
			c.mu.Lock()
			now, changed := c.now, c.changed
			c.mu.Unlock()
			if !yield(now) {
				return
			}
			select {
			case <-changed:
			case <-c.sessions.life.Done():
				return
			case <-ctx.Done():
				return
			}
		}
	}
}
