package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

const (
	problemAddress = "address"

	bindTimeout  = time.Second // for the first lookup: Listen is to return
	minBindPause = 50 * time.Millisecond
	maxBindPause = 5 * time.Second

	// loopbackPatience is how long nothing is said of a member that only its own host can reach, as long as nobody has.
	loopbackPatience = 1500 * time.Millisecond
)

// errNotYet: the name that is to be listened on leads nowhere, or to other hosts. That may change: a pod's name follows it.
var errNotYet = errors.New("cannot be listened on yet")

// bind listens on all addresses of this host that addr leads to. An error that is errNotYet may be gone a moment later.
func bind(ctx context.Context, e *session.Endpoint, addr string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("transport: bind %s: %w", addr, err)
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, bindError(addr, err)
		}
		return []net.Listener{ln}, nil
	}
	addrs, err := e.Names.Lookup(ctx, host)
	if err != nil || len(addrs) == 0 {
		return nil, fmt.Errorf("transport: bind %s: %w: %w", addr, errNotYet, err)
	}
	if port == "0" {
		addrs = addrs[:1] // two would get two ports
	}
	var all []net.Listener
	var errs session.DialErrors
	for _, a := range addrs {
		ln, err := net.Listen("tcp", net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			all = append(all, ln)
			continue
		}
		errs = append(errs, err)
	}
	// What is not this host's address is somebody else's, or was ours; but one that is taken is taken.
	taken := slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, syscall.EADDRNOTAVAIL) && !noFamily(err) })
	switch {
	case taken:
		closeAll(all)
		return nil, bindError(addr, errs)
	case len(all) == 0:
		return nil, fmt.Errorf("transport: bind %s: %w: %w", addr, errNotYet, errs)
	}
	return all, nil
}

func bindError(addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("transport: address %s is in use, by another member or program on this host: %w", addr, err)
	}
	return fmt.Errorf("transport: bind %s: %w", addr, err)
}

func noFamily(err error) bool { return errors.Is(err, syscall.EAFNOSUPPORT) }

func closeAll(all []net.Listener) error {
	var errs []error
	for _, ln := range all {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// listen takes connections once there is something to listen on, and starts the peers then: who dials must be reachable.
func (t *TCP) listen(ctx context.Context) {
	if !t.awaitBind(ctx) {
		return
	}
	t.mu.Lock()
	if !t.closed {
		for _, ln := range t.listeners {
			t.wg.Go(func() { t.accept(ctx, ln) })
		}
		t.wg.Go(func() { t.watchReach(ctx) })
		if t.end.Secure() || t.cfg.Authorize != nil {
			t.wg.Go(func() { t.watchCertificates(ctx) })
		}
	}
	t.mu.Unlock()
	t.supervise(ctx)
}

// awaitBind tries again and again to bind where that was not possible yet.
func (t *TCP) awaitBind(ctx context.Context) bool {
	t.mu.Lock()
	bound := len(t.listeners) > 0
	t.mu.Unlock()
	if bound {
		return true
	}
	t.end.Problem("", problemAddress, t.unbound)
	for pause := minBindPause; ; pause = min(2*pause, maxBindPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
		lctx, cancel := context.WithTimeout(ctx, session.ResolveTimeout)
		all, err := bind(lctx, t.end, t.cfg.Bind)
		cancel()
		if ctx.Err() != nil {
			_ = closeAll(all)
			return false
		}
		if err != nil {
			t.end.Problem("", problemAddress, err)
			continue
		}
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			_ = closeAll(all)
			return false
		}
		t.listeners = all
		t.mu.Unlock()
		t.end.Problem("", problemAddress, nil)
		return true
	}
}

// watchReach tells of a member that listens on loopback only while others are elsewhere, until somebody has reached it. A
// host's own name often leads to 127.0.1.1 on that host, and to its real address on all others.
func (t *TCP) watchReach(ctx context.Context) {
	t.mu.Lock()
	where, loopback := listenAddrs(t.listeners)
	t.mu.Unlock()
	if !loopback {
		return
	}
	told := false
	tick := time.NewTicker(loopbackPatience)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		lost := !t.reached.Load() && t.othersElsewhere()
		if lost {
			t.end.Problem("", problemAddress, fmt.Errorf("%s leads to loopback only (%s): nobody on another host can reach this member, and nobody has; "+
				"set Bind, or give its name another address on its own host", t.cfg.Bind, where))
		} else if told {
			t.end.Problem("", problemAddress, nil)
		}
		if told = lost; t.reached.Load() {
			return
		}
	}
}

func listenAddrs(all []net.Listener) (where string, loopback bool) {
	loopback = true
	texts := make([]string, len(all))
	for i, ln := range all {
		texts[i] = ln.Addr().String()
		ap, err := netip.ParseAddrPort(texts[i])
		loopback = loopback && err == nil && ap.Addr().IsLoopback()
	}
	return strings.Join(texts, ", "), loopback
}

// othersElsewhere says whether a peer's host is written differently from ours, and not as loopback.
func (t *TCP) othersElsewhere() bool {
	own, _, _ := net.SplitHostPort(t.cfg.Self.Addr)
	for _, p := range t.dir.Load().byID {
		host, _, _ := net.SplitHostPort(p.Addr)
		ip, err := netip.ParseAddr(host)
		if !strings.EqualFold(host, own) && !strings.EqualFold(host, "localhost") && (err != nil || !ip.IsLoopback()) {
			return true
		}
	}
	return false
}
