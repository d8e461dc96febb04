package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

// A program that is no member calls the Active, reads the log, and keeps its place in it.
func Example() {
	addr, stop := exampleMember()
	defer stop()

	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Cluster: "greetings", Addrs: []string{addr}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, who := range []string{"Ada", "Grace"} {
		answer, err := c.Call(ctx, []byte(who))
		fmt.Println(string(answer), err)
	}

	done, err := c.Cursor(ctx, "reports") // 0: it begins
	if err != nil {
		fmt.Println(err)
		return
	}
	for e, err := range c.Subscribe(ctx, done+1) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e.Index, string(e.Data))
		if err := c.SaveCursor(ctx, "reports", e.Index); err != nil {
			fmt.Println(err)
			return
		}
		if e.Index == 2 {
			break
		}
	}
	// Output:
	// hello Ada <nil>
	// hello Grace <nil>
	// 1 Ada
	// 2 Grace
}

// exampleMember starts a cluster of one whose program greets whoever is named.
func exampleMember() (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	n, err := ha.Open(ha.Config{
		Name: "a", Dir: dir + "/a", Cluster: "greetings", Members: []ha.Member{{Name: "a", Addr: l.Addr().String()}}, Listener: l,
		Logger: slog.New(slog.DiscardHandler),
		Handle: func(ctx context.Context, t fence.Token, r ha.Request) ([]byte, error) {
			_, err := ha.FromContext(ctx).Append(ctx, t, r.Data)
			return fmt.Appendf(nil, "hello %s", r.Data), err
		},
	})
	if err != nil {
		panic(err)
	}
	return l.Addr().String(), func() {
		n.Close()
		os.RemoveAll(dir)
	}
}
