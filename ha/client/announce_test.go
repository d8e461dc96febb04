package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// workers is what a member lists, in short.
func workers(n *ha.Node) string {
	var all []string
	for _, w := range n.Workers() {
		all = append(all, fmt.Sprintf("%s@%s %s %v", w.Name, w.Addr, w.Text, w.Liveness))
	}
	return strings.Join(all, ", ")
}

// TestAnnounce: a worker is listed by every member, also by one that comes back, and one that leaves is known to have left.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.active()
	list := func(want ...string) {
		t.Helper()
		for _, name := range []string{"a", "b", "c"} {
			deadline := time.Now().Add(patience)
			for !slices.Contains(want, workers(c.node(name))) {
				if time.Sleep(time.Millisecond); time.Now().After(deadline) {
					t.Fatalf("%s lists %q, want %q", name, workers(c.node(name)), want)
				}
			}
		}
	}
	leaves, closed := dial(t, c.addr("b")), dial(t, c.addr("a"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() {
		done <- leaves.Announce(ctx, client.Worker{Name: "w1", Addr: "h:1", Text: "4 slots", Every: time.Hour})
	}()
	go func() { done <- closed.Announce(t.Context(), client.Worker{Name: "w2", Every: 100 * time.Millisecond}) }()
	list("w1@h:1 4 slots Alive, w2@  Alive")

	c.stop("c")
	c.start("c")
	list("w1@h:1 4 slots Alive, w2@  Alive")

	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Announce: %v", err)
	}
	list("w1@h:1 4 slots Left, w2@  Alive")
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, client.ErrClosed) {
		t.Errorf("Announce: %v", err)
	}
	list("w1@h:1 4 slots Left, w2@  Dead", "w1@h:1 4 slots Left, w2@  Left") // it may have had time for a last word

	for _, w := range []client.Worker{{}, {Name: strings.Repeat("x", 2000)}, {Name: "x", Every: -1}} {
		if err := leaves.Announce(t.Context(), w); err == nil || errors.Is(err, client.ErrClosed) {
			t.Errorf("%.30v is announced: %v", w, err)
		}
	}
	if err := leaves.Close(); err != nil {
		t.Error(err)
	}
}
