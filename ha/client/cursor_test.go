package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// A cursor is everybody's, outlives the restart of all members, and never goes back.
func TestCursor(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range uint64(9) {
		c.put(number(i + 1))
	}
	at := func(want uint64) {
		t.Helper()
		if got, err := cl.Cursor(ctx, "reports"); err != nil || got != want {
			t.Errorf("the cursor is %d, %v, want %d", got, err, want)
		}
	}
	at(0)
	for _, save := range []uint64{3, 7, 5} {
		if err := cl.SaveCursor(ctx, "reports", save); err != nil {
			t.Fatal(err)
		}
	}
	at(7)
	for what, err := range map[string]error{
		"behind the end": cl.SaveCursor(ctx, "reports", 10),
		"no name":        cl.SaveCursor(ctx, "x y", 1),
		"too long":       cl.SaveCursor(ctx, strings.Repeat("x", 300), 1),
	} {
		if !errors.Is(err, client.ErrBadCursor) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, m := range c.members {
		n := c.node(m.Name)
		if got, err := n.Cursor(ctx, "reports"); err != nil || got != 7 {
			t.Errorf("%s says %d, %v", m.Name, got, err)
		}
		if err := n.SaveCursor(ctx, "of."+m.Name, 1); err != nil {
			t.Error(err)
		}
	}
	c.stopAll()
	for _, m := range c.members {
		c.start(m.Name)
	}
	at(7)
	eventually(t, "every member knows all cursors", func() bool {
		for _, m := range c.members {
			if len(c.node(m.Name).Cursors()) != 4 {
				return false
			}
		}
		return true
	})
	if err := cl.DropCursor(ctx, "reports"); err != nil {
		t.Error(err)
	}
	at(0)
	if err := cl.DropCursor(ctx, "reports"); err != nil {
		t.Error(err)
	}
}

// The log is kept for a reader up to a limit, on every member; then the reader has lost its place, and is told so.
func TestCursorPins(t *testing.T) {
	t.Parallel()
	const record = 8 << 10
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.CheckpointBytes, cfg.RetainBytes, cfg.CursorBytes = 1<<16, 1, 4<<20
	})
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fill := func(bytes int) {
		const together = 16
		for left := bytes / record; left > 0; left -= together {
			c.put(slices.Repeat([][]byte{make([]byte, record)}, min(left, together))...)
		}
	}
	fill(2 * record)
	if err := cl.SaveCursor(ctx, "slow", 1); err != nil {
		t.Fatal(err)
	}
	n := c.node("a")
	for i := range uint64(4) { // on a slow disk there are few while much is appended
		fill(1 << 19)
		eventually(t, "checkpoints are written", func() bool { return n.Stats().Log.Checkpoints > i })
	}
	if err := read(ctx, cl, 2, 10); err != nil {
		t.Errorf("what the reader needs: %v", err)
	}
	if err := read(ctx, cl, 1, 1); err != nil && !errors.Is(err, client.ErrCompacted) {
		t.Error(err)
	}
	lost := func() bool {
		for _, p := range n.Status().Problems {
			if p.Kind == "cursor" && strings.Contains(p.Err.Error(), "slow needs record 2") {
				return true
			}
		}
		return false
	}
	if lost() {
		t.Error("the reader is said to have lost its place")
	}
	eventually(t, "the reader has lost its place", func() bool {
		fill(1 << 18)
		return lost()
	})
	if err := read(ctx, cl, 2, 1); !errors.Is(err, client.ErrCompacted) {
		t.Errorf("what was given up: %v", err)
	}
	if err := cl.DropCursor(ctx, "slow"); err != nil {
		t.Error(err)
	}
	eventually(t, "nobody has lost his place", func() bool {
		fill(1 << 17)
		return !lost()
	})
}

// Without a majority no cursor is said to be saved (the planted bug "cursor-not-durable" does).
func TestCursorDurable(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) { cfg.Heartbeat, cfg.ElectionTimeout = 200*time.Millisecond, 15*time.Second }) // its role lasts until it is asked
	n, _ := c.active()
	c.put(number(1))
	for _, m := range c.members {
		if m.Name != n.Status().Name {
			c.stop(m.Name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.SaveCursor(ctx, "reports", 1); !errors.Is(err, ha.ErrUnknown) {
		t.Errorf("saved without a majority: %v", err)
	}
}
