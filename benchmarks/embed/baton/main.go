// Command baton is the smallest program that embeds baton: a cluster of one, one append. It is measured by
// cmd/embedcost.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

func main() {
	appended := make(chan error, 1)
	var node *ha.Node
	opened := make(chan struct{})
	node, err := ha.Open(ha.Config{
		Name: "a", Dir: os.Args[1], Cluster: "jobs", Members: []ha.Member{{Name: "a", Addr: os.Args[2]}},
		Logger: slog.New(slog.DiscardHandler),
		OnActive: func(ctx context.Context, t fence.Token) error {
			<-opened
			_, err := node.Append(ctx, t, []byte("add 1"))
			appended <- err
			return err
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	close(opened)
	if err := <-appended; err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("appended")
	if err := node.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
