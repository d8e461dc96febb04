package client_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/baton-ha/baton/ha/client"
)

// A blocked handler takes no line before it is told to.
type blocked struct {
	slog.Handler
	until chan struct{}
}

func (b blocked) Enabled(context.Context, slog.Level) bool { <-b.until; return false }

// A client whose logger blocks follows the cluster all the same, and can be closed.
func TestLogger_ThatBlocksBlocksNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	said := make(chan struct{})
	defer close(said)
	cl, err := client.Dial(t.Context(), client.Config{Cluster: "test", Addrs: c.addrs(), Logger: slog.New(blocked{slog.DiscardHandler, said})})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // each end of a connection is a line
		if _, err := cl.Call(t.Context(), []byte("record")); err != nil {
			t.Fatal(err)
		}
		c.stop("a")
		c.start("a")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := cl.Call(ctx, []byte("record")); err != nil {
		t.Errorf("a call while the logger blocks: %v", err)
	}
	if err := cl.Close(); err != nil {
		t.Error(err)
	}
}
