package session

import (
	"context"
	"net"
	"syscall"
)

type segmentKey struct{}

// WithSegmentSize returns a ctx whose dials bound the segments of the connection; 0 leaves it to the kernel.
func WithSegmentSize(ctx context.Context, size int) context.Context {
	if size == 0 {
		return ctx
	}
	return context.WithValue(ctx, segmentKey{}, size)
}

// connect is what a dialer connects with.
func connect(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if size, ok := ctx.Value(segmentKey{}).(int); ok {
		d.Control = func(_, _ string, rc syscall.RawConn) error { return setSegmentSize(rc, size) }
	}
	return d.DialContext(ctx, network, addr)
}
