package follow

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/baton-ha/baton/ha/client"
)

// Config says how a connection follows. The zero value will do.
type Config struct {
	// Address returns where a member's gRPC service is reached, host:port, or "" if nowhere. It must not block. Nil: what the member advertises, host:port or an URL with both, or, if
	// it advertises nothing, its address as a member, where its program may share the port (ha.Config.SharePort).
	Address func(m client.Member) string

	// Idempotent says which methods ("/package.Service/Method") do no harm when they take effect twice: such a call is made again also if
	// it has failed with Unavailable when it may have been under way. Nil: none.
	Idempotent func(method string) bool

	// Patience is for how long a call is made again. 0: 30 s. Negative: not at all.
	Patience time.Duration

	// Linger is how long what is under way at a member may go on after another one has become Active, which matters where the first has
	// fallen silent without an end to its connections; then it ends with Unavailable. 0: 5 s.
	Linger time.Duration

	// Dial connects to an address. Nil: TCP, with the addresses that a name leads to in turn.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	if c.Address == nil {
		c.Address = service
	}
	if c.Idempotent == nil {
		c.Idempotent = func(string) bool { return false }
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Linger == 0 {
		c.Linger = 5 * time.Second
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return c
}

// Active returns a connection to whoever is Active, which it follows. opts say at least how it is secured; what they say prevails. It does not wait for the
// Active. The client must be closed after it.
func Active(c *client.Client, cfg Config, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return newConn(targetActive, c, cfg, opts)
}

// Members returns a connection to all members, which are asked in turn: for what every member serves. A call that is refused since the member
// is not Active goes to the next.
func Members(c *client.Client, cfg Config, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return newConn(targetMembers, c, cfg, opts)
}

func newConn(target string, c *client.Client, cfg Config, opts []grpc.DialOption) (*grpc.ClientConn, error) {
	cfg = cfg.withDefaults()
	d := &dialler{cfg: cfg, conns: map[*conn]struct{}{}}
	r := &repeater{c: c, cfg: cfg}
	return grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithResolvers(&builder{c: c, address: cfg.Address, moved: d.moved}),
		grpc.WithContextDialer(d.dial),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithChainUnaryInterceptor(r.unary),
		grpc.WithChainStreamInterceptor(r.stream),
	}, opts...)...)
}

// connectTimeout is how long a member may take to let a connection in. Another Active ends the wait.
const connectTimeout = 5 * time.Second

// A dialler knows the connections that it has made, and ends those that have been left.
type dialler struct {
	cfg Config

	mu    sync.Mutex // guards what follows
	at    string     // where the Active's service is; "" where none is followed
	conns map[*conn]struct{}
}

type conn struct {
	net.Conn
	d  *dialler
	to string
}

func (d *dialler) dial(ctx context.Context, address string) (net.Conn, error) {
	nc, err := d.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	c := &conn{nc, d, address}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = struct{}{}
	return c, nil
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.d.mu.Lock()
	delete(c.d.conns, c)
	c.d.mu.Unlock()
	return c.Conn.Close()
}

// moved ends what is left of connections to elsewhere, after a while. gRPC has no new calls on them any more.
func (d *dialler) moved(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == to {
		return
	}
	d.at = to
	time.AfterFunc(d.cfg.Linger, func() {
		for _, c := range d.leftBehind() {
			_ = c.Close()
		}
	})
}

func (d *dialler) leftBehind() (all []*conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if c.to != d.at {
			all = append(all, c)
		}
	}
	return all
}
