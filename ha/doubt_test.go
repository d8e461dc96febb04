package ha

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
)

// TestG4_WallJumps: the clock on the wall is set ahead by more than the lease lasts, as after a pause that the lease's
// clock has not counted. At once the token is good for nothing any more; the role ends, and a new epoch begins.
func TestG4_WallJumps(t *testing.T) {
	var ahead atomic.Int64
	real := wallOf
	wallOf = func(t time.Time) time.Duration { return real(t) + time.Duration(ahead.Load()) }
	defer func() { wallOf = real }()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	tokens, ends := make(chan fence.Token, 2), make(chan error, 2)
	n, err := Open(Config{
		Name: "a", Dir: filepath.Join(t.TempDir(), "a"), Cluster: "shop", Members: []Member{{Name: "a", Addr: addr}}, Logger: quiet,
		OnActive: func(ctx context.Context, token fence.Token) error {
			tokens <- token
			<-ctx.Done()
			ends <- context.Cause(ctx)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	token := <-tokens
	for s := range n.Watch(t.Context()) {
		if s.Token == token {
			break
		}
	}
	ahead.Add(int64(100 * time.Millisecond)) // less than what is left
	if err := n.Check(token); err != nil {
		t.Errorf("a small step of the wall: %v", err)
	}
	ahead.Add(int64(time.Hour))
	if err := n.Check(token); !errors.Is(err, ErrFenced) {
		t.Errorf("Check after the jump: %v", err)
	}
	if cause := <-ends; !errors.Is(cause, ErrLeaseExpired) {
		t.Errorf("the role ended because of %v", cause)
	}
	if again := <-tokens; again.Epoch <= token.Epoch {
		t.Errorf("%v after %v", again, token)
	}
	told := false
	for _, e := range n.Events() {
		told = told || e.Kind == EventEnded && strings.Contains(e.Text, "the clock on the wall got ahead by 1h0m0")
	}
	if !told {
		t.Error("that the clock was set is not said")
	}
}
