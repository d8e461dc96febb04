package session

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// ResolveTimeout bounds the lookup of a name: twice what resolvers wait for one server.
const ResolveTimeout = 10 * time.Second

const (
	// dialStagger is the head start of each address of a name before the next one (RFC 8305, section 5).
	dialStagger = 150 * time.Millisecond
	// resolvePatience is how long a lookup is waited for where the addresses of the last one are known.
	resolvePatience = 300 * time.Millisecond
	// maxNames bounds what is remembered, and maxAddresses what is tried of one name.
	maxNames     = 256
	maxAddresses = 64
)

// Dialer connects to names that lead to several addresses, of which some may be dead, and remembers what it learnt.
type Dialer struct {
	timeout time.Duration // of one address
	Lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	Connect func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex           // guards names
	names map[string]*resolved // by host:port
}

// resolved is what is known of one host:port.
type resolved struct {
	last    []netip.Addr // of the last lookup that succeeded
	failed  []netip.Addr // where a connection was made, and then somebody else than the member answered, or nobody; the last one last
	suspect bool         // one failed since the last lookup: the name may lead elsewhere by now
}

func newDialer(timeout time.Duration) *Dialer {
	return &Dialer{
		timeout: timeout, Connect: connect, names: map[string]*resolved{},
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}
}

// dial resolves addr and connects to the first of its addresses that takes the connection. Each is begun a moment after the
// one before, or when that one fails. Where the name server is slow or silent, the addresses of the last lookup are tried
// meanwhile.
func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		ctx, cancel := context.WithTimeout(ctx, d.timeout)
		defer cancel()
		return d.Connect(ctx, network, addr)
	}
	r := race{d: d, network: network, addr: addr, port: port, results: make(chan raced)}
	return r.run(ctx, host)
}

// race is one dial of a name.
type race struct {
	d       *Dialer
	network string
	addr    string
	port    string
	queue   []netip.Addr
	begun   []netip.Addr
	results chan raced
	running int
	errs    DialErrors
}

// DialErrors is why each of several addresses could not be reached, in one line.
type DialErrors []error

func (e DialErrors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	slices.Sort(texts) // the same failures have the same text, whichever came first
	return strings.Join(slices.Compact(texts), "; ")
}

func (e DialErrors) Unwrap() []error { return e }

type raced struct {
	conn net.Conn
	err  error
}

func (r *race) run(ctx context.Context, host string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	found := make(chan answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, ResolveTimeout)
		defer cancel()
		addrs, err := r.d.Lookup(ctx, host)
		found <- answer{addrs, err}
	}()
	resolving := true
	defer func() {
		// Whoever comes second is closed. A dial or lookup whose ctx has ended returns at once.
		cancel()
		if resolving {
			<-found
		}
		for ; r.running > 0; r.running-- {
			if res := <-r.results; res.conn != nil {
				res.conn.Close()
			}
		}
	}()

	remembered, wait := r.d.remembered(r.addr)
	patience, next := time.NewTimer(wait), time.NewTimer(dialStagger)
	defer patience.Stop()
	defer next.Stop()
	for {
		select {
		case a := <-found:
			resolving = false
			if a.err != nil {
				r.errs = append(r.errs, a.err)
				r.add(remembered)
			} else {
				r.add(r.d.learn(r.addr, a.addrs))
			}
			r.begin(ctx, next)
		case <-patience.C:
			r.add(remembered)
			r.begin(ctx, next)
		case <-next.C:
			r.begin(ctx, next)
		case res := <-r.results:
			r.running--
			if res.err == nil {
				return res.conn, nil
			}
			r.errs = append(r.errs, res.err)
			r.begin(ctx, next)
		case <-ctx.Done():
			return nil, append(r.errs, context.Cause(ctx))
		}
		if !resolving && r.running == 0 && len(r.queue) == 0 {
			return nil, r.failure(host)
		}
	}
}

// add puts addresses into the queue that were not there yet.
func (r *race) add(addrs []netip.Addr) {
	for _, a := range addrs {
		if !slices.Contains(r.begun, a) && !slices.Contains(r.queue, a) && len(r.begun)+len(r.queue) < maxAddresses {
			r.queue = append(r.queue, a)
		}
	}
}

// begin starts the dial of the next address, and the timer for the one after it.
func (r *race) begin(ctx context.Context, next *time.Timer) {
	if len(r.queue) == 0 {
		return
	}
	ip := r.queue[0]
	r.queue, r.begun = r.queue[1:], append(r.begun, ip)
	r.running++
	go func() {
		ctx, cancel := context.WithTimeout(ctx, r.d.timeout)
		defer cancel()
		conn, err := r.d.Connect(ctx, r.network, net.JoinHostPort(ip.String(), r.port))
		r.results <- raced{conn, err}
	}()
	next.Reset(dialStagger)
}

// failure is the error of a race that nobody has won.
func (r *race) failure(host string) error {
	if len(r.begun) == 0 && len(r.errs) == 0 {
		return fmt.Errorf("%s leads to no address", host)
	}
	if len(r.begun) > 0 && !slices.ContainsFunc(r.begun, func(a netip.Addr) bool { return !a.IsLoopback() }) {
		return fmt.Errorf("%s leads to loopback only, %s: %w", host, joinAddrs(r.begun), r.errs)
	}
	return r.errs
}

func joinAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// remembered returns the addresses of the last lookup, and how long a new one is waited for before they are tried.
func (d *Dialer) remembered(addr string) ([]netip.Addr, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.names[addr]
	if r == nil {
		return nil, ResolveTimeout
	}
	if r.suspect {
		return r.order(r.last), ResolveTimeout
	}
	return r.order(r.last), resolvePatience
}

// learn takes note of a lookup, and returns its addresses in the order in which they are to be tried.
func (d *Dialer) learn(addr string, found []netip.Addr) []netip.Addr {
	for i, a := range found {
		found[i] = a.Unmap()
	}
	found = interleave(found)
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.nameLocked(addr)
	r.last, r.suspect = found, false
	r.failed = slices.DeleteFunc(r.failed, func(a netip.Addr) bool { return !slices.Contains(found, a) })
	return r.order(found)
}

func (d *Dialer) nameLocked(addr string) *resolved {
	r := d.names[addr]
	if r == nil {
		if len(d.names) >= maxNames {
			clear(d.names)
		}
		r = &resolved{}
		d.names[addr] = r
	}
	return r
}

// blame says that not the member answered at an address of addr: the others come first from now on, and the next lookup is
// waited for.
func (d *Dialer) blame(addr string, conn net.Conn) {
	d.note(addr, conn, func(r *resolved, ip netip.Addr) {
		r.failed = append(r.failed, ip)
		r.failed = r.failed[max(0, len(r.failed)-maxAddresses):]
		r.suspect = true
	})
}

// praise says that the member answered.
func (d *Dialer) praise(addr string, conn net.Conn) {
	d.note(addr, conn, func(r *resolved, _ netip.Addr) { r.suspect = false })
}

func (d *Dialer) note(addr string, conn net.Conn, f func(*resolved, netip.Addr)) {
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	ip := ap.Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.names[addr]
	if r == nil {
		return
	}
	r.failed = slices.DeleteFunc(r.failed, func(a netip.Addr) bool { return a == ip })
	f(r, ip)
}

// order puts those that failed behind the others, the one that failed last at the end.
func (r *resolved) order(addrs []netip.Addr) []netip.Addr {
	addrs = slices.Clone(addrs)
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return slices.Index(r.failed, a) - slices.Index(r.failed, b) })
	return addrs
}

// interleave lets the two families take turns, beginning with that of the first address, which the resolver prefers.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, second, out []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	for len(first)+len(second) > 0 {
		if len(first) > 0 {
			out, first = append(out, first[0]), first[1:]
		}
		if len(second) > 0 {
			out, second = append(out, second[0]), second[1:]
		}
	}
	return out
}
