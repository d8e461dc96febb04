package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/baton-ha/baton/ha/client"
)

// Scheme is that of the targets that the resolver knows: "baton:///active" is whoever is Active, "baton:///members" every member that may serve something, that is, all but
// arbiters, to be asked in turn.
const Scheme = "baton"

const (
	targetActive  = Scheme + ":///active"
	targetMembers = Scheme + ":///members"
)

// Resolver returns a resolver for targets of the scheme "baton", for grpc.WithResolvers, on which [Active] and [Members] are built. The addresses are those of
// [Config.Address]. The client must be closed after the connections.
func Resolver(c *client.Client, cfg Config) resolver.Builder {
	return &builder{c: c, address: cfg.withDefaults().Address, moved: func(string) {}}
}

type builder struct {
	c       *client.Client
	address func(client.Member) string
	moved   func(to string) // is told where the Active's service is
}

// Scheme implements [resolver.Builder].
func (b *builder) Scheme() string { return Scheme }

// OverrideAuthority implements [resolver.AuthorityOverrider]: what there is of a name in the target is none of a host. Each address has its own for TLS.
func (b *builder) OverrideAuthority(resolver.Target) string { return Scheme }

// Build implements [resolver.Builder].
func (b *builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	f := &follower{cc: cc}
	switch target.Endpoint() {
	case "", "active":
		f.endpoints = b.active
	case "members":
		f.endpoints, f.config = b.members, `{"loadBalancingConfig":[{"round_robin":{}}]}`
	default:
		return nil, fmt.Errorf("follow: %q: want %s or %s", target.URL.String(), targetActive, targetMembers)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.wg.Go(func() { f.follow(ctx, b.c) })
	return f, nil
}

// active returns where the Active's service is.
func (b *builder) active(now client.Cluster) ([]resolver.Endpoint, error) {
	m, ok := now.Find(now.Active)
	if !ok {
		return nil, client.ErrNoActive
	}
	at := b.address(m)
	if at == "" {
		return nil, fmt.Errorf("follow: %s is active, and does not say where its service is reached", m.Name)
	}
	b.moved(at)
	return []resolver.Endpoint{endpoint(at)}, nil
}

// members returns where all members' services are.
func (b *builder) members(now client.Cluster) (all []resolver.Endpoint, err error) {
	for _, m := range now.Members {
		if at := b.address(m); at != "" && m.Kind != "arbiter" {
			all = append(all, endpoint(at))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("follow: no member says where its service is reached")
	}
	return all, nil
}

func endpoint(at string) resolver.Endpoint {
	host, _, _ := net.SplitHostPort(at)
	return resolver.Endpoint{Addresses: []resolver.Address{{Addr: at, ServerName: host}}}
}

// A follower tells a connection what a client knows.
type follower struct {
	cc        resolver.ClientConn
	config    string // of the service, as JSON; "": none
	endpoints func(client.Cluster) ([]resolver.Endpoint, error)
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

func (f *follower) follow(ctx context.Context, c *client.Client) {
	told := false
	for now := range c.Watch(ctx) {
		all, err := f.endpoints(now)
		switch {
		case err == nil:
			s := resolver.State{Endpoints: all}
			if f.config != "" {
				s.ServiceConfig = f.cc.ParseServiceConfig(f.config)
			}
			_ = f.cc.UpdateState(s) // its errors ask to be told again, and what is new will be
			told = true
		case !told: // else what was said last is the best that is known
			f.cc.ReportError(err)
		}
	}
	if ctx.Err() == nil {
		f.cc.ReportError(client.ErrClosed)
	}
}

// ResolveNow implements [resolver.Resolver]: what is new is told at once anyway.
func (f *follower) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (f *follower) Close() {
	f.cancel()
	f.wg.Wait()
}

// service is where a member's service is reached, unless the program says otherwise.
func service(m client.Member) string {
	at := cmp.Or(m.Advertise, m.Addr)
	if strings.Contains(at, "://") {
		u, err := url.Parse(at)
		if err != nil {
			return ""
		}
		at = u.Host
	}
	if _, _, err := net.SplitHostPort(at); err != nil {
		return ""
	}
	return at
}
